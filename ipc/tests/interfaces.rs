//! The interface files: well formed, complete in their documentation, and in step with the code that
//! stands beside them.

use std::collections::BTreeSet;
use std::path::Path;

use eddy_ipc::{Error, INTERFACES, Key, accepts};
use zbus_xml::{ArgDirection, Interface, Node};

fn each(mut check: impl FnMut(&str, &str, &Interface<'_>)) {
    for (name, text) in INTERFACES {
        let node = Node::from_reader(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(node.interfaces().len(), 1, "{name}: one interface for each file");
        check(name, text, &node.interfaces()[0]);
    }
}

/// The comment that documents a member: it begins with the member's name and a colon.
fn documentation<'a>(text: &'a str, member: &str) -> Option<&'a str> {
    text.split("<!--")
        .skip(1)
        .filter_map(|rest| rest.split_once("-->").map(|(comment, _)| comment.trim()))
        .find(|comment| comment.starts_with(&format!("{member}:\n")))
}

#[test]
fn every_file_is_listed_and_holds_the_interface_of_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interfaces");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = INTERFACES.iter().map(|(name, _)| format!("{name}.xml")).collect();
    assert_eq!(files, listed);
    each(|name, _, interface| assert_eq!(interface.name().as_str(), name));
}

#[test]
fn every_member_and_every_argument_is_documented() {
    each(|name, text, interface| {
        assert!(documentation(text, name).is_some(), "{name} itself");
        let mut members: Vec<(String, Vec<String>)> = Vec::new();
        let arguments = |args: &[zbus_xml::Arg<'_>]| -> Vec<String> {
            args.iter().map(|arg| arg.name().expect("every argument has a name").to_owned()).collect()
        };
        members.extend(interface.methods().map(|method| (method.name().to_string(), arguments(method.args()))));
        members.extend(interface.signals().map(|signal| (signal.name().to_string(), arguments(signal.args()))));
        members.extend(interface.properties().map(|property| (property.name().to_string(), Vec::new())));
        for (member, arguments) in members {
            let comment = documentation(text, &member).unwrap_or_else(|| panic!("{name}.{member} is not documented"));
            for argument in arguments {
                assert!(comment.contains(&format!("@{argument}: ")), "{name}.{member}: @{argument}");
                assert!(
                    argument.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                    "{name}.{member}: {argument} is not in snake case"
                );
            }
            assert!(comment.lines().all(|line| line.len() <= 100), "{name}.{member}: a long line");
        }
    });
}

#[test]
fn every_argument_has_a_direction_and_options_come_last() {
    each(|name, _, interface| {
        for method in interface.methods() {
            assert!(method.args().iter().all(|arg| arg.direction().is_some()), "{name}.{}", method.name());
            let inputs: Vec<_> = method.args().iter().filter(|arg| arg.direction() == Some(ArgDirection::In)).collect();
            if let Some(place) = inputs.iter().position(|arg| arg.name() == Some("options")) {
                assert_eq!(place, inputs.len() - 1, "{name}.{}", method.name());
                assert_eq!(inputs[place].ty().to_string(), "a{sv}", "{name}.{}", method.name());
            }
        }
    });
}

/// The words before a parenthesis in the documentation of `options`, and the types in it.
fn documented_options(comment: &str) -> BTreeSet<(String, String)> {
    let text = comment.split_once("@options:").expect("options are documented").1;
    let text = text.split("\n      @").next().unwrap_or(text).split("\n\n").next().unwrap_or(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('(') {
        let name = before.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        let signature = after.split([')', ',', ':']).next().unwrap_or_default().to_owned();
        found.insert((name, signature));
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    found
}

#[test]
fn documented_options_are_the_accepted_ones() {
    let mut seen = BTreeSet::new();
    each(|name, text, interface| {
        for method in interface.methods() {
            if !method.args().iter().any(|arg| arg.name() == Some("options")) {
                continue;
            }
            let method = method.name().to_string();
            let comment = documentation(text, &method).expect("documented");
            let (_, _, keys) = accepts::ALL
                .iter()
                .find(|(interface, known, _)| *interface == name && *known == method)
                .unwrap_or_else(|| panic!("{name}.{method} is not in accepts::ALL"));
            let accepted: BTreeSet<_> =
                keys.iter().map(|key: &Key| (key.as_str().to_owned(), key.signature().to_owned())).collect();
            assert_eq!(documented_options(comment), accepted, "{name}.{method}");
            seen.insert((name.to_owned(), method));
        }
    });
    assert_eq!(seen.len(), accepts::ALL.len(), "accepts::ALL names methods that no file has");
}

#[test]
fn documented_errors_exist() {
    each(|name, text, _| {
        for rest in text.split("Error.").skip(1) {
            let error: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(Error::NAMES.contains(&error.as_str()), "{name} speaks of Error.{error}");
        }
    });
}

#[test]
fn what_is_private_is_not_announced() {
    for (interface, property) in [("org.eddy.Request1", "Result"), ("org.eddy.Conversation1", "History")] {
        each(|name, _, found| {
            if name != interface {
                return;
            }
            let property = found.properties().find(|known| known.name().as_str() == property).expect("exists");
            let announced = property.annotations().iter().find(|a| a.name().ends_with("EmitsChangedSignal"));
            assert_eq!(announced.map(|annotation| annotation.value()), Some("false"), "{name}");
        });
    }
}
