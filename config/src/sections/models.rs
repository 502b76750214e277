//! `[models]`: where model folders are, which one serves which task, and how long they stay in memory.

use std::path::PathBuf;
use std::time::Duration;

use crate::schema::{choice, settings};
use crate::units::{Auto, Bytes, Never};

choice! {
    /// Which of a folder's precisions to load.
    pub enum Precision {
        /// The best that the folder has and the memory budget allows.
        Auto = "auto",
        /// 32-bit floats.
        Fp32 = "fp32",
        /// 16-bit floats.
        Fp16 = "fp16",
        /// 8-bit integers.
        Q8 = "q8",
        /// 4-bit integers in blocks, 32-bit arithmetic.
        Q4 = "q4",
        /// 4-bit integers in blocks, 16-bit arithmetic.
        Q4f16 = "q4f16",
    }
}

settings! {
    /// Where model folders are, which one serves which task, and how long they stay in memory.
    pub struct Models("models") {
        /// Folders that hold model folders, searched in this order. Empty: the user's data folder
        /// (~/.local/share/eddy/models), then /var/lib/eddy/models, then /usr/share/eddy/models.
        directories: Vec<PathBuf> = Vec::new(), live;
        /// The model folder (by name) that listens and speaks. Empty: the first one found that can.
        speech: String = String::new(), live;
        /// The model folder that answers text. Empty: the first one found that can.
        text: String = String::new(), live;
        /// The model folder that looks at images. Empty: the first one found that can.
        vision: String = String::new(), live;
        /// The model folder that searches by meaning. Empty: the first one found that can.
        retrieval: String = String::new(), live;
        /// The precision to load where a folder has several. What a folder lacks falls back to the
        /// nearest one it has. Holds for models loaded from then on.
        precision: Precision = Precision::Auto, live;
        /// Memory that all loaded models together may take. "auto" is half of the machine's memory. A
        /// model that cannot fit is refused; otherwise the one unused for longest makes room.
        memory_budget: Auto<Bytes> = Auto::Auto, live, (Bytes::mib(64), Bytes(1 << 50));
        /// Memory in which each text model keeps what it has read, so that a prompt that begins as an earlier
        /// one is not read again. What was unused for longest makes room. Holds for models loaded from then on.
        prefix_cache: Bytes = Bytes::mib(256), restart, (Bytes(0), Bytes(1 << 40));
        /// How long a model may be idle before it is unloaded.
        idle_unload: Never = Never::After(Duration::from_secs(600)), live,
            (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
        /// Model folders (by name) that are never unloaded, neither when idle nor to make room.
        pinned: Vec<String> = Vec::new(), live;
        /// Let questions in text and images leave the daemon for models that another engine serves: folders
        /// with a remote.toml. Such a model serves who names it, or the task that names it above; its
        /// results say where they were made. A unit without network needs its drop-in remote.conf too.
        remote: bool = false, live;
        /// Model folders (by name) that are loaded when the daemon starts, rather than on first use.
        preload: Vec<String> = Vec::new(), restart;
    }
}
