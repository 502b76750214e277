//! The speech verbs of `eddy` as a user meets them: results, files, and one clear line for everything that is wrong.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::process::Stdio;

use eddy_tests::compare::assert_close;
use eddy_tests::eddy::{command, eddy, eddy_error, eddy_json};
use eddy_tests::fixtures::{composed, fixture, runtime_folder};
use eddy_tests::npy;
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn question() -> String {
    text(&fixture("questions/question.wav")).to_owned()
}

fn model(name: &str) -> String {
    text(&fixture(name)).to_owned()
}

fn reference(folder: &str, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(&format!("{folder}-reference/{name}"))).unwrap()).unwrap()
}

/// Sample count and rate of a WAV file that another reader than ours accepts.
fn wav(path: &Path) -> (u32, u32) {
    let reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().channels, reader.spec().bits_per_sample), (1, 16));
    (reader.duration(), reader.spec().sample_rate)
}

#[test]
fn probe_reports_and_dumps_what_the_reference_has() {
    let out = tempfile::tempdir().unwrap();
    let folder = model("speech-a");
    let wav = question();
    let mut arguments = vec!["probe", &folder, "--task", "speech", "--wav", &wav, "--precision", "fp32", "--json"];
    arguments.extend(["--dump", text(out.path())]);
    let report = eddy_json(&arguments);

    let expected = reference("speech-a", "interleaved.json");
    assert_eq!(report["items"], expected["items"]);
    assert_eq!(report["text"], expected["text"]);
    assert_eq!(report["prompt_items"], expected["prompt_items"]);
    let identity = &report["model"];
    assert_eq!(
        (&identity["family"], &identity["layout"], &identity["precision"]),
        (&"speech".into(), &"A".into(), &"fp32".into())
    );
    assert_eq!(identity["repairs"], serde_json::json!([]));
    for stage in ["load", "mel", "embed", "prefill", "decode", "depthformer", "detokenize"] {
        assert!(report["timings"][stage].as_f64().is_some_and(|seconds| seconds >= 0.0), "{stage}: {report}");
    }
    assert!(report["peak_rss_mib"].as_f64().unwrap() > 1.0);

    for (name, tolerance) in [
        ("audio_embeddings", 1e-4),
        ("logits_first", 1e-4),
        ("hidden_first", 1e-4),
        ("frame_logits", 1e-4),
        ("stft_features", 1e-4),
        ("samples", 1e-5),
    ] {
        let ours = npy::floats(out.path().join(format!("{name}.npy")));
        let theirs = npy::floats(fixture(&format!("speech-a-reference/{name}.npy")));
        assert_eq!(ours.shape, theirs.shape, "{name}");
        assert_close(name, &ours.data, &theirs.data, tolerance);
    }
    let mel = npy::floats(out.path().join("mel.npy"));
    assert_close("mel", &mel.data, &npy::floats(fixture("speech-reference/mel.npy")).data, 2e-4);
}

#[test]
fn probe_transcribes_and_speaks() {
    for folder in ["speech-a", "speech-c"] {
        let expected = reference(folder, "transcribe.json");
        let (path, wav) = (model(folder), question());
        let report = eddy_json(&["probe", &path, "--task", "transcribe", "--wav", &wav, "--precision", "fp32"]);
        assert_eq!(report["items"], expected["items"], "{folder}");
        let expected = reference(folder, "speak.json");
        let words = expected["spoken_text"].as_str().unwrap();
        let report = eddy_json(&["probe", &path, "--task", "speak", "--text", words, "--precision", "fp32"]);
        assert_eq!(report["items"], expected["items"], "{folder}");
        let frames = expected["items"].as_array().unwrap().iter().filter_map(|item| item.get("audio"));
        let end = frames.clone().flat_map(|frame| frame[0].as_u64()).max().unwrap();
        let heard = frames.filter(|frame| frame[0].as_u64() != Some(end)).count() as u64;
        assert_eq!(report["samples"].as_u64().unwrap(), 1920 * heard, "{folder}");
    }
}

#[test]
fn probe_continues_prompts_messages_and_ids() {
    let out = tempfile::tempdir().unwrap();
    for (folder, task) in [("text-a", "text"), ("text-c", "text"), ("moe-a", "moe")] {
        let expected = reference(folder.split('-').next().unwrap(), "greedy.json");
        let path = model(folder);
        let words = "What is the weather like today?";
        let messages = out.path().join("messages.json");
        std::fs::write(&messages, serde_json::json!([{ "role": "user", "content": words }]).to_string()).unwrap();
        let ids = expected["prompt_ids"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
        for way in [["--prompt", words], ["--messages", text(&messages)], ["--input-ids", &ids]] {
            let dump = text(out.path());
            let mut arguments = vec!["probe", &path, "--task", task, "--precision", "fp32", "--max-items", "64"];
            arguments.extend(["--dump", dump]);
            arguments.extend(way);
            let report = eddy_json(&arguments);
            assert_eq!(report["ids"], expected["ids"], "{folder} {way:?}");
            assert_eq!(report["prompt_ids"], expected["prompt_ids"], "{folder} {way:?}");
            assert_eq!(report["text"], expected["text"], "{folder} {way:?}");
            let logits = npy::floats(out.path().join("logits.npy"));
            let theirs = npy::floats(fixture(&format!("{task}-reference/logits.npy")));
            assert_eq!(logits.shape, theirs.shape, "{folder} {way:?}");
            assert_close(folder, &logits.data, &theirs.data, 1e-4);
        }
    }
    let line = eddy_error(&["probe", &model("text-a"), "--task", "text"]);
    assert!(line.contains("--prompt"), "{line}");
    let line = eddy_error(&["probe", &model("text-a"), "--task", "moe", "--prompt", "x"]);
    assert!(line.contains("--task text"), "{line}");
    let line = eddy_error(&["probe", &model("text-a"), "--task", "speech", "--wav", &question()]);
    assert!(line.contains("it holds a text model"), "{line}");
}

#[test]
fn probe_encodes_queries_and_documents() {
    let out = tempfile::tempdir().unwrap();
    let path = model("colbert-causal");
    let cases = reference("colbert-causal", "cases.json");
    let theirs = npy::floats(fixture("colbert-causal-reference/as_is.npy"));
    let mut row = 0;
    for (side, option) in [("queries", "--query"), ("documents", "--document")] {
        for case in cases["as_is"][side].as_array().unwrap() {
            let words = case["text"].as_str().unwrap();
            // A word that begins with a dash would be an option without the equals sign.
            let given = format!("{option}={words}");
            let report = eddy_json(&["probe", &path, "--task", "colbert", &given, "--dump", text(out.path())]);
            assert_eq!(report["prompt_ids"], case["ids"], "{words:?}");
            let ours = npy::floats(out.path().join("vectors.npy"));
            let count = case["vectors"].as_u64().unwrap() as usize;
            assert_eq!(ours.shape, [count, theirs.shape[1]], "{words:?}");
            let expected = &theirs.data[row * theirs.shape[1]..(row + count) * theirs.shape[1]];
            assert_close(words, &ours.data, expected, 1e-4);
            row += count;
        }
    }
    let line = eddy_error(&["probe", &path, "--task", "colbert"]);
    assert!(line.contains("--query"), "{line}");
}

#[test]
fn chat_streams_replies_and_keeps_the_conversation() {
    let path = model("text-a");
    let expected = reference("text", "greedy.json");
    let once = eddy(&[
        "chat",
        "What is the weather like today?",
        "--model",
        &path,
        "--precision",
        "fp32",
        "--greedy",
        "--max-items",
        "64",
    ]);
    assert!(once.status.success());
    let printed = String::from_utf8(once.stdout).unwrap();
    assert_eq!(printed.trim_end_matches('\n'), expected["text"].as_str().unwrap().trim_end_matches('\n'));

    let mut child =
        command(&["chat", "--model", &path, "--precision", "fp32", "--greedy", "--json", "--max-items", "8"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    child.stdin.take().unwrap().write_all("What is the weather like today?\n\nAnd tomorrow?\n".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let turns: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(turns.len(), 2);
    assert_eq!(turns[0]["prompt_tokens"].as_u64().unwrap() as usize, expected["prompt_ids"].as_array().unwrap().len());
    assert!(turns[1]["prompt_tokens"].as_u64() > turns[0]["prompt_tokens"].as_u64());
    assert!(turns[1]["prompt_tokens_reused"].as_u64().unwrap() >= turns[0]["prompt_tokens"].as_u64().unwrap());
}

#[test]
fn chat_keeps_to_a_schema_or_to_tools() {
    let out = tempfile::tempdir().unwrap();
    let path = model("text-a");
    let write = |name: &str, value: Value| {
        let file = out.path().join(name);
        std::fs::write(&file, value.to_string()).unwrap();
        text(&file).to_owned()
    };
    let schema = write("schema.json", serde_json::json!({ "enum": ["yes", "no"] }));
    let reply = eddy_json(&["chat", "Is it?", "--model", &path, "--json", "--schema", &schema]);
    let said: Value = serde_json::from_str(reply["text"].as_str().unwrap()).unwrap();
    assert!(said == "yes" || said == "no", "{reply}");

    let parameters = serde_json::json!({ "properties": { "on": { "type": "boolean" } }, "required": ["on"] });
    let tools = write("tools.json", serde_json::json!([{ "name": "light", "parameters": parameters }]));
    let called = (0..10).any(|seed| {
        let seed = seed.to_string();
        let arguments =
            ["chat", "Light!", "--model", &path, "--json", "--tools", &tools, "--call", "--max-items", "60"];
        let reply = eddy_json(&[&arguments[..], &["--seed", &seed]].concat());
        // A random model may go on calling until its tokens are used up; what it has said by then is kept.
        if reply["finish_reason"] == "length" {
            assert!(reply["text"].as_str().unwrap().starts_with("<|tool_call_start|>"), "{reply}");
            return false;
        }
        assert_eq!((&reply["text"], &reply["finish_reason"]), (&"".into(), &"tool_calls".into()), "{reply}");
        assert!(reply["tool_calls"][0]["arguments"]["on"].is_boolean(), "{reply}");
        reply["tool_calls"][0]["name"] == "light"
    });
    assert!(called);
    let cut = ["chat", "Light!", "--model", &path, "--json", "--tools", &tools, "--call", "--max-items", "2"];
    let reply = eddy_json(&cut);
    assert_eq!((&reply["finish_reason"], &reply["tool_calls"]), (&"length".into(), &serde_json::json!([])), "{reply}");
    assert!(reply["text"].as_str().unwrap().starts_with("<|tool_call_start|>"), "{reply}");
    let line = eddy_error(&["chat", "x", "--model", &path, "--tools", &question()]);
    assert!(line.contains("not JSON"), "{line}");
}

#[test]
fn converse_answers_into_a_file() {
    let out = tempfile::tempdir().unwrap();
    let answer = out.path().join("answer.wav");
    let report =
        eddy_json(&["converse", &question(), "-o", text(&answer), "--model", &model("speech-a"), "--greedy", "--json"]);
    let (samples, rate) = wav(&answer);
    assert_eq!(rate, 24_000);
    assert_eq!(u64::from(samples), report["samples"].as_u64().unwrap());
    assert!(samples > 0);
    assert_eq!(report["finish_reason"], "stop");

    // The same without --json: the words alone, on standard output.
    let plain = eddy(&["converse", &question(), "-o", text(&answer), "--model", &model("speech-a"), "--greedy"]);
    assert!(plain.status.success());
    assert_eq!(
        String::from_utf8(plain.stdout).unwrap().trim_end_matches('\n'),
        report["text"].as_str().unwrap().trim_end_matches('\n')
    );
    assert_eq!(wav(&answer).0, samples);
}

#[test]
fn a_seed_decides_the_answer() {
    let out = tempfile::tempdir().unwrap();
    let answer = |seed: &str| {
        let file = out.path().join(format!("{seed}.wav"));
        let report = eddy_json(&[
            "converse",
            &question(),
            "-o",
            text(&file),
            "--model",
            &model("speech-a"),
            "--seed",
            seed,
            "--json",
            "--max-items",
            "40",
        ]);
        (report["text"].clone(), std::fs::read(file).unwrap())
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1").1, answer("2").1);
}

#[test]
fn transcribe_and_say_work_on_every_recording_format() {
    let out = tempfile::tempdir().unwrap();
    for recording in ["question.wav", "question-22050-mono.wav", "question-44100-stereo.wav"] {
        let wav = model(&format!("questions/{recording}"));
        let report = eddy_json(&["transcribe", &wav, "--model", &model("speech-c"), "--json", "--max-items", "20"]);
        assert!(report["text"].as_str().is_some_and(|text| !text.is_empty()), "{recording}: {report}");
    }
    let file = out.path().join("said.wav");
    let expected = reference("speech-a", "speak.json");
    let words = expected["spoken_text"].as_str().unwrap();
    let report = eddy_json(&[
        "say",
        words,
        "-o",
        text(&file),
        "--model",
        &model("speech-a"),
        "--greedy",
        "--json",
        "--precision",
        "fp32",
    ]);
    assert_eq!(u64::from(wav(&file).0), report["samples"].as_u64().unwrap());
    assert_eq!(report["text"], expected["text"]);
}

#[test]
fn demo_shows_what_it_did() {
    let out = tempfile::tempdir().unwrap();
    let shown = eddy(&["demo", &question(), "--model", &model("speech-a"), "--greedy", "-o", text(out.path())]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in ["model ", "question ", "heard ", "answer ", "latency ", "sound "] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    assert!(wav(&out.path().join("question-answer.wav")).0 > 0);
}

#[test]
fn interrupting_leaves_valid_files() {
    let out = tempfile::tempdir().unwrap();
    // So many questions that the interruption always comes in time, a copy each so that every answer has its file.
    let questions: Vec<String> = (0..400)
        .map(|index| {
            let copy = out.path().join(format!("{index}.wav"));
            std::fs::hard_link(question(), &copy).or_else(|_| std::fs::copy(question(), &copy).map(|_| ())).unwrap();
            text(&copy).to_owned()
        })
        .collect();
    let answers = out.path().join("answers");
    let mut child = command(&["demo", "--model", &model("speech-a"), "-o", text(&answers)])
        .args(&questions)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = Vec::new();
    while !line.starts_with(b"sound ") {
        line.clear();
        assert!(reader.read_until(b'\n', &mut line).unwrap() > 0, "it ended by itself");
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let end = child.wait_with_output().unwrap();
    assert_eq!(end.status.code(), Some(130), "{}", String::from_utf8_lossy(&end.stderr));
    assert_eq!(String::from_utf8(end.stderr).unwrap(), "eddy: interrupted\n");
    let written: Vec<_> = std::fs::read_dir(&answers).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!written.is_empty() && written.len() < questions.len());
    for file in written {
        assert_eq!(wav(&file).1, 24_000);
    }
}

#[test]
fn unusable_recordings_are_named() {
    let out = tempfile::tempdir().unwrap();
    let whole = std::fs::read(question()).unwrap();
    let header = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = |name: &str, samples: &mut dyn Iterator<Item = i16>| {
        let mut writer = hound::WavWriter::create(out.path().join(name), header).unwrap();
        samples.for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
    };
    std::fs::write(out.path().join("truncated.wav"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(out.path().join("text.wav"), "this is a shopping list\n".repeat(20)).unwrap();
    std::fs::write(out.path().join("nothing.wav"), b"").unwrap();
    write("empty.wav", &mut std::iter::empty());
    write("short.wav", &mut (0..800).map(|index| (index % 50) * 100));
    write("silent.wav", &mut std::iter::repeat_n(0, 16_000));
    write("full.wav", &mut (0..163_840).map(|index| (index % 50) as i16 * 100));
    write("long.wav", &mut (0..16_000 * 12).map(|index| (index % 50) as i16 * 100));
    for (name, expected) in [
        ("truncated.wav", "promises"),
        ("text.wav", "WAV"),
        ("nothing.wav", "WAV"),
        ("empty.wav", "no samples"),
        ("short.wav", "0.1 s"),
        ("silent.wav", "silent"),
        ("full.wav", "10.2"),
        ("long.wav", "10.2"),
        ("missing.wav", "no such file"),
    ] {
        let path = out.path().join(name);
        let line = eddy_error(&["transcribe", text(&path), "--model", &model("speech-a")]);
        assert!(line.contains(text(&path)) && line.contains(expected), "{name}: {line}");
        assert!(line.contains(';'), "no remedy: {line}");
    }
}

#[test]
fn unusable_folders_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let failure = |folder: &Path| eddy_error(&["transcribe", &question(), "--model", text(folder)]);

    let line = failure(empty.path());
    assert!(line.contains(text(empty.path())) && line.contains("no known graph"), "{line}");
    let line = failure(Path::new("/nonexistent/model"));
    assert!(line.contains("/nonexistent/model"), "{line}");

    let cut = composed("speech-a", None);
    let data = cut.path().join("onnx/decoder_q4.onnx_data");
    let length = std::fs::metadata(&data).unwrap().len();
    std::fs::File::options().write(true).open(&data).unwrap().set_len(length - 1000).unwrap();
    let line = failure(cut.path());
    assert!(line.contains("decoder_q4.onnx_data") && line.contains("cut off") && line.contains("again"), "{line}");

    let renamed = composed("speech-a", None);
    let graph = renamed.path().join("onnx/audio_encoder_q4.onnx");
    replace_in(&graph, b"mel_spectrogram", b"mel_spectrogran");
    let line = failure(renamed.path());
    assert!(line.contains("audio_encoder_q4.onnx") && line.contains("mel_spectrogram"), "{line}");

    let other = composed("speech-a", None);
    std::fs::write(
        other.path().join("tokenizer.json"),
        r#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"a"}}"#,
    )
    .unwrap();
    let line = failure(other.path());
    assert!(line.contains("tokenizer.json") && line.contains("wrong tokenizer"), "{line}");

    let pipe = composed("speech-a", None);
    let config = pipe.path().join("config.json");
    std::fs::remove_file(&config).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&config).status().unwrap().success());
    let line = failure(pipe.path());
    assert!(line.contains("config.json") && line.contains("no plain file"), "{line}");

    let endless = composed("speech-a", None);
    std::fs::remove_file(endless.path().join("config.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", endless.path().join("config.json")).unwrap();
    assert!(failure(endless.path()).contains("no plain file"));

    let huge = composed("speech-a", None);
    let rows = r#"{"vocab_size": 18446744073709551615, "hidden_size": 32, "dtype": "float32"}"#;
    std::fs::write(huge.path().join("onnx/embed_tokens.json"), rows).unwrap();
    assert!(failure(huge.path()).contains("embed_tokens.bin"));

    let damaged = composed("speech-a", None);
    std::fs::write(damaged.path().join("onnx/decoder_q4.onnx"), "<html>not found</html>").unwrap();
    let line = failure(damaged.path());
    assert!(line.contains("decoder_q4.onnx") && line.contains("not an ONNX model"), "{line}");

    let line = eddy_error(&["transcribe", &question(), "--model", &model("speech-a"), "--precision", "q5"]);
    assert!(line.contains("q5") && line.contains("fp32"), "{line}");
    let spared = eddy(&["transcribe", &question(), "--model", &model("speech-a"), "--precision", "fp16"]);
    let note = String::from_utf8(spared.stderr).unwrap();
    assert!(spared.status.success() && note.contains("no fp16 decoder, fp32 is used"), "{note}");
}

#[test]
fn what_a_folder_lacks_is_named_and_the_rest_works() {
    let out = tempfile::tempdir().unwrap();
    let answer = out.path().join("answer.wav");
    let without = |pattern: &str| {
        let folder = composed("speech-a", None);
        for entry in std::fs::read_dir(folder.path().join("onnx")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(pattern) {
                std::fs::remove_file(path).unwrap();
            }
        }
        folder
    };

    // A part that the request does not need may be damaged.
    let hurt = composed("speech-a", None);
    std::fs::write(hurt.path().join("onnx/audio_encoder_q4.onnx"), "damaged").unwrap();
    eddy_json(&["say", "hello", "-o", text(&answer), "--model", text(hurt.path()), "--json", "--max-items", "1"]);

    let deaf = without("audio_encoder");
    let line = eddy_error(&["transcribe", &question(), "--model", text(deaf.path())]);
    assert!(line.contains("audio_encoder*.onnx not found") && line.contains(text(deaf.path())), "{line}");
    assert!(line.contains("speech input is unavailable"), "{line}");
    eddy_json(&["say", "hello", "-o", text(&answer), "--model", text(deaf.path()), "--json", "--max-items", "1"]);

    let dumb = without("audio_detokenizer");
    let line = eddy_error(&["say", "hello", "-o", text(&answer), "--model", text(dumb.path())]);
    assert!(line.contains("audio_detokenizer*.onnx not found") && line.contains("text output works"), "{line}");
    eddy_json(&["transcribe", &question(), "--model", text(dumb.path()), "--json"]);
    let probed =
        eddy_json(&["probe", text(dumb.path()), "--task", "speech", "--wav", &question(), "--max-items", "30"]);
    assert!(probed["model"]["lacking"][0].as_str().unwrap().contains("audio_detokenizer"), "{probed}");
    assert_eq!(probed["samples"], 0);

    let headless = without("decoder");
    let line = eddy_error(&["transcribe", &question(), "--model", text(headless.path())]);
    assert!(line.contains("decoder*.onnx not found"), "{line}");
}

#[test]
fn a_missing_runtime_library_is_one_line() {
    for (library, expected) in [("/nonexistent/libonnxruntime.so", "/nonexistent"), (&*question(), "cannot be used")] {
        let output = command(&["transcribe", &question(), "--model", &model("speech-a")])
            .env("ORT_DYLIB_PATH", library)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.contains(expected) && errors.contains("make runtime"), "{errors}");
    }
    let found = command(&["transcribe", &question(), "--model", &model("speech-a"), "--max-items", "2"])
        .env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"))
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for arguments in
        [&["converse"][..], &["nonsense"], &["probe", "x", "--task", "speech"], &["say", "x", "--seed", "y"]]
    {
        assert_eq!(eddy(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(eddy(&["--version"]).status.code(), Some(0));
    assert_eq!(eddy(&["help", "probe"]).status.code(), Some(0));
}

/// Replaces every `from` in a file by `to` of the same length.
fn replace_in(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn nothing_but_the_answer_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (home, answer) = (folder.path().join("home"), folder.path().join("answer.wav"));
    std::fs::create_dir(&home).unwrap();
    let mut command = command(&["converse", &question(), "--model", &model("speech-a"), "--max-items", "8"]);
    command.arg("-o").arg(&answer).env("ORT_DYLIB_PATH", runtime_folder().join("libonnxruntime.so.1.32.0"));
    // The library's own reporting stays off, whatever the environment says.
    command.env("HOME", &home).env("TMPDIR", &home).env("ORT_DISABLE_TELEMETRY", "0");
    for variable in ["XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    assert!(output.status.success() && answer.is_file(), "{output:?}");
    let written: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(written.is_empty(), "{written:?}");
}
