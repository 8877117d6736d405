//! Completions for the shells: what `clap_complete` makes of the definition of the command line, and the
//! names of interfaces, which it cannot know.

use clap::Command;
use clap_complete::{Shell, generate};
use netcombiner::cli;
use netcombiner::process::run_dir;

use crate::File;

const PROGRAM: &str = "netcombiner";

/// How the definition calls a positional argument that is the name of an interface.
const INTERFACE: &str = "interface";

/// The scripts, under the names by which the shells find them.
///
/// # Errors
///
/// If `clap_complete` writes something else than text.
pub(crate) fn scripts() -> anyhow::Result<Vec<File>> {
    let file = |name: &str, text| File { name: name.to_owned(), text };
    Ok(vec![
        file("netcombiner.bash", bash(&script(Shell::Bash)?)),
        file("_netcombiner", zsh(&script(Shell::Zsh)?)),
        file("netcombiner.fish", fish(script(Shell::Fish)?)),
    ])
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut text = Vec::new();
    generate(shell, &mut definition(), PROGRAM, &mut text);
    Ok(String::from_utf8(text)?)
}

/// The definition without the interface of `netcombiner nc0`: `clap_complete` would look for the subcommand
/// behind it.
fn definition() -> Command {
    let whole = cli::definition();
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().filter(|argument| !argument.is_positional()).cloned())
        .subcommands(whole.get_subcommands().cloned())
}

/// A command that prints the interfaces that run or have a configuration which may be seen, one a line.
fn list_interfaces() -> String {
    format!(
        r"ls {} {} 2>/dev/null | sed -n 's/\.sock$//p; /^[A-Za-z0-9_=+-]\{{1,15\}}$/p' | sort -u",
        run_dir::DEFAULT,
        cli::CONFIG_DIR
    )
}

/// The names are offered among the first words of the program, and of each subcommand that takes one. Its words
/// stand behind a label made of the subcommand's name.
fn bash(script: &str) -> String {
    let mut labels = vec![PROGRAM.to_owned()];
    bash_labels(&definition(), PROGRAM, &mut labels);
    let mut text = format!("_netcombiner_interfaces() {{\n    {}\n}}\n\n", list_interfaces());
    let mut takes_interface = false;
    for line in script.lines() {
        if let Some(label) = line.trim().strip_suffix(')') {
            takes_interface = labels.iter().any(|known| known == label);
        }
        match line.strip_suffix('"') {
            Some(words) if takes_interface && words.trim_start().starts_with("opts=") => {
                text.extend([words, " $(_netcombiner_interfaces)\"\n"]);
            }
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

/// The labels of the subcommands of `command` that take an interface.
fn bash_labels(command: &Command, label: &str, labels: &mut Vec<String>) {
    for command in command.get_subcommands() {
        let label = format!("{label}__subcmd__{}", command.get_name().replace('-', "__"));
        bash_labels(command, &label, labels);
        if takes_interface(command) {
            labels.push(label);
        }
    }
}

/// In zsh an argument is followed by the function that completes it. The names are offered there and beside
/// the subcommands.
fn zsh(script: &str) -> String {
    let function = format!(
        "(( $+functions[_netcombiner_interfaces] )) ||\n_netcombiner_interfaces() {{\n    \
         local names=(${{(f)\"$({})\"}})\n    compadd -a names\n}}\n",
        list_interfaces()
    );
    let marker = format!(":{INTERFACE} -- ");
    let mut text = String::new();
    for (index, line) in script.lines().enumerate() {
        if line.contains(&marker) {
            text += &line.replace(":_default'", ":_netcombiner_interfaces'");
        } else {
            text += line;
        }
        text += "\n";
        if line.contains("_describe -t commands 'netcombiner commands'") {
            text += "    _netcombiner_interfaces\n";
        }
        // The first line tells zsh what the file completes.
        if index == 0 {
            text.extend(["\n", &function]);
        }
    }
    text
}

fn fish(script: String) -> String {
    let mut text = script
        + &format!("\nfunction __fish_netcombiner_interfaces\n    {}\nend\n", list_interfaces())
        + &fish_rule("__fish_netcombiner_needs_command");
    let mut definition = cli::definition();
    definition.build();
    for command in definition.get_subcommands() {
        let using = format!("__fish_netcombiner_using_subcommand {}", command.get_name());
        if takes_interface(command) {
            text += &fish_rule(&using);
        }
        for nested in command.get_subcommands().filter(|nested| takes_interface(nested)) {
            text += &fish_rule(&format!("{using}; and __fish_seen_subcommand_from {}", nested.get_name()));
        }
    }
    text
}

fn fish_rule(condition: &str) -> String {
    format!("complete -c {PROGRAM} -n \"{condition}\" -f -a \"(__fish_netcombiner_interfaces)\"\n")
}

fn takes_interface(command: &Command) -> bool {
    command.get_positionals().any(|argument| argument.get_id() == INTERFACE)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    /// What bash offers after these words, the last of which is incomplete.
    fn offered(words: &[&str]) -> Vec<String> {
        let scripts = scripts().expect("scripts");
        let bash = &scripts.iter().find(|file| file.name.ends_with(".bash")).expect("one for bash").text;
        let test = format!(
            "{bash}\n_netcombiner_interfaces() {{ echo nc7; }}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n\
             _netcombiner netcombiner '{}' x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1,
            words[words.len() - 1],
        );
        let output = Command::new("bash").arg("-c").arg(test).output().expect("bash");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_subcommands_options_and_interfaces() {
        assert_eq!(offered(&["netcombiner", "relo"]), ["reload"]);
        assert_eq!(offered(&["netcombiner", "show", "--js"]), ["--json"]);
        for words in
            [&["netcombiner", "nc"][..], &["netcombiner", "show", "nc"], &["netcombiner", "down", ""]]
        {
            assert!(offered(words).contains(&"nc7".to_owned()), "{words:?}");
        }
        // Nothing is offered, so bash goes on with files.
        assert_eq!(offered(&["netcombiner", "check", "/etc"]), [""]);
    }

    #[test]
    fn zsh_and_fish_complete_interfaces() {
        let scripts = scripts().expect("scripts");
        let text = |name: &str| &scripts.iter().find(|file| file.name == name).expect("there").text;
        let with_interface = cli::definition().get_subcommands().filter(|c| takes_interface(c)).count() + 1;
        let zsh = text("_netcombiner");
        assert!(zsh.starts_with("#compdef netcombiner\n"), "{zsh}");
        assert!(zsh.matches("_netcombiner_interfaces").count() >= with_interface + 2, "{zsh}");
        let fish = text("netcombiner.fish");
        assert!(fish.matches("(__fish_netcombiner_interfaces)").count() >= with_interface, "{fish}");
    }

    #[test]
    fn each_shell_that_is_here_reads_its_script() {
        let directory = tempfile::tempdir().expect("a directory");
        for (shell, file) in scripts().expect("scripts").iter().map(|file| (shell_of(file), file)) {
            let path = directory.path().join(&file.name);
            fs::write(&path, &file.text).expect("written");
            match Command::new(shell).arg("-n").arg(&path).stdin(Stdio::null()).output() {
                Err(_) => eprintln!("SKIPPED: {shell} is not here"),
                Ok(output) => {
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                }
            }
        }
    }

    fn shell_of(file: &File) -> &'static str {
        match file.name.rsplit_once('.') {
            Some((_, "bash")) => "bash",
            Some((_, "fish")) => "fish",
            _ => "zsh",
        }
    }
}
