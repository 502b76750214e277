//! The annotated example file, made from the schema so that it cannot drift from it.

use crate::config::Config;
use crate::reload::Applies;

/// The text of `eddy.example.toml`: every section and key with its documentation, what it accepts and
/// its built-in value. All values are commented out, so that a copy keeps following the defaults.
pub fn example() -> String {
    let mut out = String::from(
        "# Eddy's settings. Every key there is, with its built-in value.\n\
         #\n\
         # Copy this file to ~/.config/eddy/eddy.toml (for you) or /etc/eddy/eddy.toml (for everybody)\n\
         # and take the # away from what you change. Your file comes before the system's; a variable\n\
         # EDDY_SECTION__KEY comes before both, and --set section.key=value before everything.\n\
         # `eddy config check` tells what is wrong, `eddy config show` what holds and who set it.\n",
    );
    for section in Config::schema() {
        out.push('\n');
        comment(&mut out, section.docs);
        out.push_str(&format!("[{}]\n", section.name));
        for field in section.fields {
            out.push('\n');
            comment(&mut out, field.docs);
            let when = match field.applies {
                Applies::AtOnce => "",
                Applies::AfterRestart => " Takes effect after a restart.",
            };
            out.push_str(&format!("# Takes {}.{when}\n#{} = {}\n", field.accepts, field.name, field.default));
        }
    }
    out
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        out.push('#');
        out.push_str(line);
        out.push('\n');
    }
}
