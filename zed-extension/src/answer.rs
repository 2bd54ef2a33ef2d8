//! From what `ecoroute recommend` printed to what a slash command shows.

use zed_extension_api::{
    Range, Result, SlashCommandArgumentCompletion, SlashCommandOutput, SlashCommandOutputSection, process::Output,
};

use crate::launch::{DEADLINE_S, TIMED_OUT};

/// Words a task may open with, offered while its first word is typed.
const OPENINGS: [&str; 6] = ["explain ", "fix ", "refactor ", "review ", "translate ", "write tests for "];

/// The program's text as it is, with a section for each paragraph; an error for everything that is no recommendation.
pub fn read(output: Output) -> Result<SlashCommandOutput> {
    match output.status {
        Some(0) => {}
        Some(TIMED_OUT) => {
            return Err(format!(
                "ecoroute gave no answer within {DEADLINE_S} seconds and was stopped; run `ecoroute health` in a terminal"
            ));
        }
        status => {
            let end = status.map_or("was ended by a signal".to_string(), |code| format!("ended with status {code}"));
            let said = String::from_utf8_lossy(&output.stderr);
            let said = if said.trim().is_empty() { "it did not say why" } else { said.trim() };
            return Err(format!("ecoroute {end}: {said}"));
        }
    }
    let text = String::from_utf8(output.stdout).map_err(|_| "what ecoroute printed is not UTF-8")?;
    if text.trim().is_empty() {
        return Err("ecoroute printed nothing".to_string());
    }
    // A recommendation opens with its headline in bold.
    if !text.starts_with("**") {
        let first = text.trim().lines().next().unwrap_or_default();
        return Err(format!("ecoroute printed no recommendation but: {first}"));
    }
    let sections = sections(&text);
    Ok(SlashCommandOutput { text, sections })
}

/// One for each paragraph, labelled with its first line free of Markdown, so that a folded answer can still be read.
fn sections(text: &str) -> Vec<SlashCommandOutputSection> {
    let mut start = 0;
    let mut sections = Vec::new();
    for paragraph in text.split("\n\n") {
        let shown = paragraph.trim_end();
        if let Some(line) = shown.lines().next() {
            let range = Range::from(start..start + shown.len());
            let label = line.trim_start_matches("- ").replace("**", "");
            sections.push(SlashCommandOutputSection { range, label });
        }
        start += paragraph.len() + 2;
    }
    sections
}

/// How the task may go on after `words`: only its first word can be guessed.
pub fn openings(words: &[String]) -> Vec<SlashCommandArgumentCompletion> {
    let typed = match words {
        [] => "",
        [word] => word,
        _ => return Vec::new(),
    };
    OPENINGS
        .iter()
        .filter(|opening| opening.starts_with(&typed.to_lowercase()))
        .map(|opening| SlashCommandArgumentCompletion {
            label: format!("{opening}…"),
            new_text: opening.to_string(),
            run_command: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Option<i32>, stdout: &[u8], stderr: &str) -> Result<SlashCommandOutput> {
        read(Output { status, stdout: stdout.to_vec(), stderr: stderr.as_bytes().to_vec() })
    }

    fn refusal(status: Option<i32>, stdout: &[u8], stderr: &str) -> String {
        ended(status, stdout, stderr).unwrap_err()
    }

    #[test]
    fn the_text_is_kept_and_each_paragraph_is_a_section() {
        let text = "**ä**: 1 µg\n\nIt is **so**.\n\n- Task: a\n- Cost: b\n";
        let shown = ended(Some(0), text.as_bytes(), "a notice").unwrap();
        assert_eq!(shown.text, text);
        let cut: Vec<_> = shown
            .sections
            .iter()
            .map(|section| {
                let range = section.range.start as usize..section.range.end as usize;
                (section.label.as_str(), &text[range])
            })
            .collect();
        assert_eq!(
            cut,
            [("ä: 1 µg", "**ä**: 1 µg"), ("It is so.", "It is **so**."), ("Task: a", "- Task: a\n- Cost: b"),]
        );
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        assert_eq!(refusal(Some(1), b"**half", " no such region\n"), "ecoroute ended with status 1: no such region");
        assert_eq!(refusal(Some(2), b"", " \n"), "ecoroute ended with status 2: it did not say why");
        assert_eq!(refusal(None, b"", "Killed"), "ecoroute was ended by a signal: Killed");
        assert!(refusal(Some(124), b"**half", "").contains("no answer within 60 seconds"));
    }

    #[test]
    fn rubbish_is_refused() {
        assert_eq!(refusal(Some(0), b"**\xff", ""), "what ecoroute printed is not UTF-8");
        assert_eq!(refusal(Some(0), b" \n", ""), "ecoroute printed nothing");
        assert_eq!(refusal(Some(0), b"\nhello\nworld", ""), "ecoroute printed no recommendation but: hello");
    }

    #[test]
    fn only_the_first_word_is_completed() {
        let labels = |words: &[&str]| -> Vec<String> {
            let words: Vec<_> = words.iter().map(|word| word.to_string()).collect();
            openings(&words).into_iter().map(|completion| completion.label).collect()
        };
        assert_eq!(labels(&[]).len(), OPENINGS.len());
        assert_eq!(labels(&["Re"]), ["refactor …", "review …"]);
        assert_eq!(labels(&["fix", ""]), [""; 0]);
        assert_eq!(labels(&["zz"]), [""; 0]);
    }
}
