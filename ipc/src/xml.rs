//! The interface files, and the comparison of what a daemon answers with them.

/// Name and text of every interface file.
pub const INTERFACES: &[(&str, &str)] = &[
    ("org.eddy.Assistant1", include_str!("../interfaces/org.eddy.Assistant1.xml")),
    ("org.eddy.Text1", include_str!("../interfaces/org.eddy.Text1.xml")),
    ("org.eddy.Vision1", include_str!("../interfaces/org.eddy.Vision1.xml")),
    ("org.eddy.Speech1", include_str!("../interfaces/org.eddy.Speech1.xml")),
    ("org.eddy.Retrieval1", include_str!("../interfaces/org.eddy.Retrieval1.xml")),
    ("org.eddy.Index1", include_str!("../interfaces/org.eddy.Index1.xml")),
    ("org.eddy.Request1", include_str!("../interfaces/org.eddy.Request1.xml")),
    ("org.eddy.Conversation1", include_str!("../interfaces/org.eddy.Conversation1.xml")),
    ("org.eddy.Models1", include_str!("../interfaces/org.eddy.Models1.xml")),
    ("org.eddy.Model1", include_str!("../interfaces/org.eddy.Model1.xml")),
    ("org.eddy.Access1", include_str!("../interfaces/org.eddy.Access1.xml")),
    ("org.eddy.Daemon1", include_str!("../interfaces/org.eddy.Daemon1.xml")),
];

/// Compares the interfaces of an object's introspection data with the interface files: every Eddy interface
/// in `introspected` has to have exactly the members of its file, with the same types, directions, access and
/// change signals, and argument names where the data has names. One sentence for each difference. Interfaces
/// that are not Eddy's are passed over.
#[cfg(feature = "contract")]
pub fn differences(introspected: &str) -> Vec<String> {
    use std::collections::BTreeSet;

    let node = match zbus_xml::Node::from_reader(introspected.as_bytes()) {
        Ok(node) => node,
        Err(error) => return vec![format!("the introspection data is not valid: {error}")],
    };
    let mut found = Vec::new();
    for interface in node.interfaces() {
        let name = interface.name().to_string();
        let Some((_, text)) = INTERFACES.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let promised = match zbus_xml::Node::from_reader(text.as_bytes()) {
            Ok(node) => members(&node.interfaces()[0]),
            Err(error) => return vec![format!("{name}: the interface file is not valid: {error}")],
        };
        let answered = members(interface);
        let names: BTreeSet<_> = promised.keys().chain(answered.keys()).collect();
        for member in names {
            match (promised.get(member), answered.get(member)) {
                (Some(promised), None) => found.push(format!("{name}.{member} is missing: {}", promised.shape)),
                (None, Some(answered)) => {
                    found.push(format!("{name}.{member} is not in the interface file: {}", answered.shape));
                }
                (Some(promised), Some(answered)) => {
                    if promised.shape != answered.shape {
                        found.push(format!(
                            "{name}.{member} is {}, and {} in the interface file",
                            answered.shape, promised.shape
                        ));
                    } else if !answered.names.is_empty() && promised.names != answered.names {
                        found.push(format!(
                            "{name}.{member} has the arguments {:?}, and {:?} in the interface file",
                            answered.names, promised.names
                        ));
                    }
                }
                (None, None) => {}
            }
        }
    }
    found
}

#[cfg(feature = "contract")]
struct Member {
    /// Everything about it but the names of its arguments.
    shape: String,
    /// The names of the arguments, empty if any has none.
    names: Vec<String>,
}

#[cfg(feature = "contract")]
fn members(interface: &zbus_xml::Interface<'_>) -> std::collections::BTreeMap<String, Member> {
    use zbus_xml::{Arg, ArgDirection};

    let types = |args: &[Arg<'_>], direction: ArgDirection, unsaid: ArgDirection| -> String {
        args.iter()
            .filter(|arg| arg.direction().unwrap_or(unsaid) == direction)
            .map(|arg| arg.ty().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let names = |args: &[Arg<'_>]| -> Vec<String> {
        args.iter().map(|arg| arg.name().map(str::to_owned)).collect::<Option<Vec<_>>>().unwrap_or_default()
    };
    let mut members = std::collections::BTreeMap::new();
    for method in interface.methods() {
        let args = method.args();
        let shape = format!(
            "a method ({}) -> ({})",
            types(args, ArgDirection::In, ArgDirection::In),
            types(args, ArgDirection::Out, ArgDirection::In)
        );
        members.insert(method.name().to_string(), Member { shape, names: names(args) });
    }
    for signal in interface.signals() {
        let args = signal.args();
        let shape = format!("a signal ({})", types(args, ArgDirection::Out, ArgDirection::Out));
        members.insert(signal.name().to_string(), Member { shape, names: names(args) });
    }
    for property in interface.properties() {
        let announced = property
            .annotations()
            .iter()
            .find(|annotation| annotation.name() == "org.freedesktop.DBus.Property.EmitsChangedSignal")
            .map_or("true", |annotation| annotation.value());
        let access = property.access();
        let shape = format!(
            "a property {} ({}{}, change signal {announced})",
            property.ty(),
            if access.read() { "read" } else { "" },
            if access.write() { "write" } else { "" },
        );
        members.insert(property.name().to_string(), Member { shape, names: Vec::new() });
    }
    members
}
