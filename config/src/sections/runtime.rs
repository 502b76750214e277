//! `[runtime]`: the library that runs the graphs, and how many cores it may have.

use std::path::PathBuf;
use std::time::Duration;

use crate::schema::settings;
use crate::units::Auto;

settings! {
    /// The library that runs the models' graphs (ONNX Runtime), and its share of the machine.
    pub struct Runtime("runtime") {
        /// The file of ONNX Runtime's shared library, libonnxruntime.so. Empty: looked for in
        /// ORT_DYLIB_PATH, beside the program, in the system's library folders and in Eddy's cache.
        library: PathBuf = PathBuf::new(), restart;
        /// Threads that compute one step. "auto" takes the physical cores, less one where there are
        /// more than two, so that audio is never late because the model is busy.
        threads: Auto<u32> = Auto::Auto, restart, (1, 256);
        /// How long a thread that has done its part of an operator waits awake for its part of the next
        /// one, rather than sleep. It never does between steps. Longer is faster on a machine that does
        /// nothing else, and slower on one that does; `eddy tune` tries what is best.
        spin: Duration = Duration::from_micros(10), restart, (Duration::ZERO, Duration::from_millis(1));
        /// Keep what a folder publishes in 32-bit floats beside 4-bit layers (the vocabulary head, the
        /// projections of audio codes) as it is. Otherwise it is stored in blocks of 8 bits while it
        /// is loaded: a quarter of the memory and of the time that reading it takes, and a difference
        /// of less than half a percent, which `eddy bench` reports.
        exact_heads: bool = false, restart;
    }
}
