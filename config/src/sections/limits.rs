//! `[limits]`: what one caller, and all callers together, may take.

use std::time::Duration;

use crate::schema::settings;
use crate::units::Bytes;

settings! {
    /// What one caller, and all callers together, may take. Beyond a limit the answer is an error that
    /// says which one; nothing waits without end.
    pub struct Limits("limits") {
        /// Requests that one caller may have running or waiting.
        requests_per_caller: u32 = 16, live, (1, 4_096);
        /// Conversations that one caller may hold open.
        conversations_per_caller: u32 = 8, live, (1, 1_024);
        /// Indexes that one caller may create.
        indexes_per_caller: u32 = 32, live, (1, 10_000);
        /// Bytes of sound, images and text that one caller's requests may hold at a time.
        bytes_per_caller: Bytes = Bytes::mib(256), live, (Bytes::mib(1), Bytes(1 << 40));
        /// Requests waiting for the engine, of all callers together.
        queue: u32 = 256, live, (1, 65_536);
        /// The largest recording.
        wav_bytes: Bytes = Bytes::mib(64), live, (Bytes(1 << 10), Bytes(1 << 32));
        /// The largest image file.
        image_bytes: Bytes = Bytes::mib(32), live, (Bytes(1 << 10), Bytes(1 << 32));
        /// Images in one question.
        images_per_request: u32 = 8, live, (1, 64);
        /// The longest text in one request: a message list, a text to speak, a query.
        text_bytes: Bytes = Bytes::mib(1), live, (Bytes(256), Bytes(1 << 30));
        /// Documents or texts in one retrieval call.
        texts_per_request: u32 = 4_096, live, (1, 1_000_000);
        /// Finished requests that are kept for callers that read the result late.
        finished_requests_kept: u32 = 64, live, (1, 4_096);
        /// How long a descriptor that a caller handed over may go without a byte before the request is
        /// given up.
        descriptor_timeout: Duration = Duration::from_secs(5), live,
            (Duration::from_millis(10), Duration::from_secs(300));
    }
}
