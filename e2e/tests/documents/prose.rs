//! The sentences of comments and pages, each with its line, and the words that none of them begins with.

/// Heads that hide the noun: a reader learns last what the sentence is about, or never.
const HEADS: &[&str] = &[
    "Who",
    "Whom",
    "Whose",
    "Whoever",
    "Whomever",
    "What",
    "Whatever",
    "Which",
    "Whichever",
    "So many",
    "So much",
    "So long",
    "So often",
];

/// A sentence, and the number of the line on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Sentence {
    /// The head that it should not have. Questions may have it, and so may quoted words of others.
    pub(crate) fn poor_head(&self) -> Option<&'static str> {
        let text = self.text.trim_start_matches(['(', '*', '_', '[']);
        if text
            .trim_end_matches(['"', '”', ')', '*', '`', '_'])
            .ends_with('?')
        {
            return None;
        }
        let is_head = |head: &&&str| {
            let rest = text.strip_prefix(**head);
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        HEADS.iter().find(is_head).copied()
    }
}

/// The sentences of a Markdown page: text, headings, items and cells of tables, but neither code nor quotations.
pub(crate) fn of_page(page: &str) -> Vec<Sentence> {
    let mut paragraphs = Paragraphs::default();
    for (line, text) in numbered(page) {
        paragraphs.add(line, text);
    }
    paragraphs.sentences()
}

/// The sentences of the comments in a source whose comments begin with `mark`, `//` or `#`.
pub(crate) fn of_comments(source: &str, mark: &str) -> Vec<Sentence> {
    let mut paragraphs = Paragraphs::default();
    for (line, text) in numbered(source) {
        let text = text.trim();
        if let Some(comment) = text.strip_prefix(mark) {
            // Of `///`, `//!` and `##`.
            let comment = comment.strip_prefix(['/', '!', '#']).unwrap_or(comment);
            paragraphs.add(line, comment);
        } else {
            paragraphs.end();
            paragraphs.is_code = false;
            if let Some(comment) = behind_code(text, mark) {
                paragraphs.add(line, comment);
                paragraphs.end();
            }
        }
    }
    paragraphs.sentences()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

/// A comment that follows code on its line, unless its mark is inside of a string.
fn behind_code<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (code, comment) = line.rsplit_once(&format!(" {mark} "))?;
    let quotes = code.matches('"').count() - code.matches("\\\"").count();
    (quotes % 2 == 0).then_some(comment)
}

/// Lines that belong together, of which sentences are made.
#[derive(Default)]
struct Paragraphs {
    ended: Vec<Vec<(usize, String)>>,
    open: Vec<(usize, String)>,
    is_code: bool,
}

impl Paragraphs {
    fn add(&mut self, line: usize, text: &str) {
        let text = text.trim();
        if text.starts_with("```") {
            self.end();
            self.is_code = !self.is_code;
            return;
        }
        if self.is_code {
            return;
        }
        if text.is_empty() || text.starts_with("> ") {
            self.end();
            return;
        }
        if text.starts_with('|') {
            self.end();
            for cell in text.split('|').map(str::trim) {
                self.open.push((line, cell.to_owned()));
                self.end();
            }
            return;
        }
        let item = without_marker(text);
        if item.len() < text.len() {
            self.end();
        }
        self.open.push((line, item.to_owned()));
        if text.starts_with('#') {
            self.end();
        }
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            self.ended.push(std::mem::take(&mut self.open));
        }
    }

    fn sentences(mut self) -> Vec<Sentence> {
        self.end();
        self.ended.iter().flat_map(|it| sentences(it)).collect()
    }
}

/// The text of a heading or an item, without `#`, `-`, `*` or `1.`.
fn without_marker(text: &str) -> &str {
    let Some((marker, rest)) = text.split_once(' ') else {
        return text;
    };
    let number = marker.strip_suffix('.').unwrap_or_default();
    let is_numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_marker = matches!(marker, "-" | "*") || marker.bytes().all(|byte| byte == b'#');
    if is_numbered || is_marker {
        rest.trim_start()
    } else {
        text
    }
}

/// A sentence ends at `.`, `!` or `?` before a space, and at `:` before a capital letter.
fn sentences(paragraph: &[(usize, String)]) -> Vec<Sentence> {
    let mut found: Vec<Sentence> = Vec::new();
    let mut is_open = false;
    let words = paragraph
        .iter()
        .flat_map(|(line, text)| text.split_whitespace().map(|word| (*line, word)));
    let mut last = "";
    for (line, word) in words {
        let before = last.trim_end_matches(['"', '”', ')', '*', '`', '_']);
        let is_capital = word
            .trim_start_matches(['"', '“', '(', '*', '_'])
            .starts_with(char::is_uppercase);
        let begins = before.ends_with(['.', '!', '?']) || (before.ends_with(':') && is_capital);
        match found.last_mut() {
            Some(sentence) if is_open && !begins => {
                sentence.text.push(' ');
                sentence.text.push_str(word);
            }
            _ => found.push(Sentence {
                line,
                text: word.to_owned(),
            }),
        }
        is_open = true;
        last = word;
    }
    found
}
