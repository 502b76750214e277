//! `[log]`: how much the daemon says about itself, and where.

use crate::schema::{choice, settings};

choice! {
    /// The least important thing that is logged.
    pub enum LogLevel {
        /// Failures only.
        Error = "error",
        /// And what may become one.
        Warn = "warn",
        /// And what an administrator may want to know afterwards.
        Info = "info",
        /// And what a developer may want to know, transcripts included.
        Debug = "debug",
        /// And every step.
        Trace = "trace",
    }
}

choice! {
    /// Where the log goes.
    pub enum LogOutput {
        /// The journal if there is one, else standard error.
        Auto = "auto",
        /// The journal, with fields.
        Journal = "journal",
        /// Standard error, one line each.
        Stderr = "stderr",
    }
}

settings! {
    /// How much the daemon says about itself, and where. Transcripts and replies are private: they are
    /// logged at "debug" and "trace" and nowhere else.
    pub struct Log("log") {
        /// The least important thing that is logged.
        level: LogLevel = LogLevel::Info, live;
        /// Levels by module, over `level`: "eddy_models=debug,zbus=warn". The variable EDDY_LOG sets
        /// this key.
        filter: String = String::new(), live;
        /// Where the log goes: "auto" is the journal if there is one, else standard error.
        output: LogOutput = LogOutput::Auto, restart;
    }
}
