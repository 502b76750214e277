//! `[generation]`: how answers are drawn, unless a caller's options say otherwise.

use crate::schema::settings;
use crate::units::Auto;

settings! {
    /// How answers are drawn. A caller's options (max_tokens, temperature, top_k, seed, greedy) come
    /// before these; "auto" is what the model's makers recommend.
    pub struct Generation("generation") {
        /// The longest spoken answer, in text tokens and audio frames together. A frame is 80 ms.
        max_items: u32 = 1_024, live, (1, 32_768);
        /// The longest written answer, in tokens.
        max_tokens: u32 = 1_024, live, (1, 131_072);
        /// Always take the likeliest token. The same question then has the same answer.
        greedy: bool = false, live;
        /// Where chance starts. "auto" is another place each time.
        seed: Auto<u64> = Auto::Auto, live;
        /// How freely text is drawn: near 0 is almost greedy, 1 is as the model was trained.
        temperature: Auto<f64> = Auto::Auto, live, (0.0, 2.0);
        /// Draw text from this many of the likeliest tokens. 0 is all of them.
        top_k: Auto<u32> = Auto::Auto, live, (0, 1_000_000);
        /// Draw text from the likeliest tokens that together reach this probability. 1 is all of them.
        top_p: Auto<f64> = Auto::Auto, live, (0.0, 1.0);
        /// Draw text from tokens with at least this part of the likeliest one's probability.
        min_p: Auto<f64> = Auto::Auto, live, (0.0, 1.0);
        /// Divide the score of tokens already used by this. 1 changes nothing.
        repetition_penalty: Auto<f64> = Auto::Auto, live, (0.5, 2.0);
        /// How freely sound is drawn.
        audio_temperature: Auto<f64> = Auto::Auto, live, (0.0, 2.0);
        /// Draw sound from this many of the likeliest codes. 0 is all of them.
        audio_top_k: Auto<u32> = Auto::Auto, live, (0, 1_000_000);
        /// What the model is told before a spoken conversation, after the words that set its mode.
        instructions: String = String::new(), live;
    }
}
