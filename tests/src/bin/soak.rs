//! `soak PART [LENGTH] [MODEL]`: the long proofs of the live voice. What they find goes into `tests/runs`.

use std::path::Path;
use std::process::ExitCode;

use eddy_tests::server::with_server_for_program;
use eddy_tests::soak::{Report, beside, devices, echo, hour, interruptions, turns, wake};

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: eddy_audio::realtime::AllocDisabler = eddy_audio::realtime::AllocDisabler;

const USAGE: &str = "usage: soak PART [LENGTH] [MODEL]
  echo [MINUTES]         replies in rooms with a loud echo, faster than time (30)
  turns [COUNT]          turns with pauses inside sentences, faster than time (100)
  wake-word [MINUTES]    a wake word against so much other speech, faster than time (20)
  barge-in [COUNT]       interruptions, in real time (50), of the model in the folder MODEL or of a tiny one
  false-alarms [COUNT]   coughs and as many doors, in real time (20)
  devices [COUNT]        each disturbance of the devices, in real time (20)
  hour [MINUTES]         a conversation in which nothing grows, in real time (60)
  idle [MINUTES]         what an open microphone costs, in real time (5)
  beside [COUNT]         full-size models: turns alone and beside callers that never pause, in real time (5)";

fn main() -> ExitCode {
    // SAFETY: the first thing that the process does, before there is any other thread.
    unsafe { eddy_models::forbid_telemetry() };
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let length = arguments.next().and_then(|length| length.parse::<f64>().ok());
    let model = arguments.next();
    let count = |usual: f64| length.unwrap_or(usual) as usize;
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let mut kept = false;
    let mut write = |report: Report| kept = report.write(&runs);
    let well = match part.as_str() {
        "echo" => {
            write(echo::run(length.unwrap_or(30.0)));
            true
        }
        "turns" => {
            write(turns::run(count(100.0)));
            true
        }
        "wake-word" => {
            write(wake::run(length.unwrap_or(20.0)));
            true
        }
        "barge-in" => in_a_room(|server| write(interruptions::barge_in(count(50.0), model.as_deref(), server))),
        "false-alarms" => in_a_room(|server| write(interruptions::false_alarms(count(20.0), server))),
        "devices" => in_a_room(|server| write(devices::run(count(20.0), server))),
        "hour" => in_a_room(|server| write(hour::conversation(length.unwrap_or(60.0), server))),
        "beside" => in_a_room(|server| write(beside::run(count(5.0), server))),
        "idle" => in_a_room(|server| write(hour::idle(length.unwrap_or(5.0), server))),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    // The process around a room knows only how the one inside ended.
    let inside = eddy_tests::server::is_inside() || matches!(part.as_str(), "echo" | "turns" | "wake-word");
    if well && (kept || !inside) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_a_room(body: impl FnOnce(&mut eddy_tests::server::Server)) -> bool {
    with_server_for_program("soak", body)
}
