//! The numbers as Prometheus reads them, on a unix socket that the user alone may open.
//!
//! Answers every connection with one page and closes it: `curl --unix-socket METRICS http://eddy/metrics`.

use std::fmt::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::BUCKETS;
use crate::bus::Core;
use crate::engine::STEP_BUCKETS;

/// How long a client may take to ask and to read.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that are answered at a time.
const MOST: usize = 8;

/// Serves the page at `path` until the task is aborted.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(core: &Arc<Core>, path: &Path) -> std::io::Result<tokio::task::JoinHandle<()>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Left by a daemon that was killed; the bus name makes sure that there is no other. Nothing but a socket is removed.
    if std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let core = Arc::clone(core);
    let places = Arc::new(tokio::sync::Semaphore::new(MOST));
    Ok(tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let core = Arc::clone(&core);
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(PATIENCE, answer(client, &core)).await;
                        drop(place);
                    });
                }
                // Descriptors may be short for a moment.
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }))
}

async fn answer(mut client: UnixStream, core: &Core) -> std::io::Result<()> {
    // What is asked for makes no difference: there is one page.
    let mut request = [0; 4096];
    let _ = client.read(&mut request).await?;
    let page = page(core);
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        page.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(page.as_bytes()).await?;
    client.shutdown().await
}

/// All numbers in the text format.
fn page(core: &Core) -> String {
    let mut page = String::new();
    let numbers = core.numbers();
    for (name, kind, help, value) in [
        ("requests_done_total", "counter", "Requests that ended as asked.", numbers.done),
        (
            "requests_cancelled_total",
            "counter",
            "Requests that were cancelled, or whose caller left.",
            numbers.cancelled,
        ),
        ("requests_failed_total", "counter", "Requests that failed.", numbers.failed),
        ("steps_stopped_total", "counter", "Steps that were stopped because they did not end.", numbers.stopped_steps),
        ("model_loads_total", "counter", "Models brought into memory.", numbers.loads),
        ("model_unloads_total", "counter", "Models taken out of memory.", numbers.unloads),
        ("prefix_hits_total", "counter", "Prompts that began with something in memory.", numbers.prefixes.hits),
        ("prefix_misses_total", "counter", "Prompts that did not.", numbers.prefixes.misses),
        ("prefix_positions_reused_total", "counter", "Positions not computed again.", numbers.prefixes.reused),
        ("prompt_positions_total", "counter", "Positions of all prompts.", numbers.prefixes.positions),
        ("queue", "gauge", "Jobs that wait or run.", numbers.queue),
        ("callers", "gauge", "Callers on the bus.", numbers.callers),
        ("objects", "gauge", "Requests and conversations on the bus.", numbers.objects),
        ("loaded_bytes", "gauge", "Weights in memory.", numbers.loaded_bytes),
        ("resident_bytes", "gauge", "Memory of the process that is resident.", numbers.resident_bytes),
    ] {
        let _ = writeln!(page, "# HELP eddy_{name} {help}\n# TYPE eddy_{name} {kind}\neddy_{name} {value}");
    }
    let _ = writeln!(page, "# HELP eddy_step_seconds Steps of the engine.\n# TYPE eddy_step_seconds histogram");
    let ends: Vec<f64> = STEP_BUCKETS.iter().map(|end| *end as f64 / 1000.0).collect();
    histogram(&mut page, "step_seconds", "", &ends, &numbers.steps, numbers.step_seconds);
    let _ = writeln!(page, "# HELP eddy_stage_seconds Requests by stage.\n# TYPE eddy_stage_seconds histogram");
    for (stage, counted) in core.metrics.histograms() {
        histogram(&mut page, "stage_seconds", &format!("stage=\"{stage}\""), &BUCKETS, &counted.counts, counted.sum);
    }
    page
}

fn histogram(page: &mut String, name: &str, label: &str, ends: &[f64], counts: &[u64], sum: f64) {
    let mut so_far = 0;
    let ends = ends.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    for (end, count) in ends.zip(counts) {
        so_far += count;
        let comma = if label.is_empty() { "" } else { "," };
        let _ = writeln!(page, "eddy_{name}_bucket{{{label}{comma}le=\"{end}\"}} {so_far}");
    }
    let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
    let _ = writeln!(page, "eddy_{name}_sum{label} {sum}\neddy_{name}_count{label} {so_far}");
}
