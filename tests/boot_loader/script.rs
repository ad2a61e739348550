//! The language that U-Boot's and GRUB's scripts share: words with variables, `if`, functions and menu entries.
//! Parsed from the very script that lies on the disk, so that a change of the script is a change of the outcome.

use std::collections::BTreeMap;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// What a command did.
#[derive(Debug)]
pub enum Flow {
    /// It ended, well or not, and the script goes on.
    Done(bool),
    /// The script ends here: a kernel starts, or the machine does so anew.
    End(super::End),
}

/// The commands of one boot loader.
pub trait Commands {
    /// Runs one command.
    fn run(&mut self, variables: &mut Variables, words: &[String]) -> Flow;
}

/// A part of a word.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Variable { name: String, quoted: bool },
}

#[derive(Debug, Clone)]
enum Token {
    Word(Vec<Piece>),
    /// A line's end or a semicolon.
    Next,
}

#[derive(Debug, Clone)]
enum Node {
    Command(Vec<Vec<Piece>>),
    /// Conditions with what follows them, and what is done otherwise.
    If(Vec<(Vec<Node>, Vec<Node>)>, Vec<Node>),
    /// `function NAME {…}` or `menuentry NAME … {…}`.
    Block(String, Vec<Node>),
}

/// What stands before the names of menu entries.
const ENTRY: &str = "menuentry ";

/// A parsed script, and the blocks that it has defined so far.
#[derive(Debug)]
pub struct Script {
    nodes: Vec<Node>,
    blocks: BTreeMap<String, Vec<Node>>,
}

impl Script {
    /// Parses a script; fails on what neither loader's script of ours uses.
    pub fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens, at: 0 };
        let (nodes, end) = parser.list(&[]);
        assert_eq!(end, None);
        Self { nodes, blocks: BTreeMap::new() }
    }

    /// Runs it from its beginning.
    pub fn run(&mut self, commands: &mut dyn Commands, variables: &mut Variables) -> Flow {
        let nodes = self.nodes.clone();
        self.list(&nodes, commands, variables)
    }

    /// Runs a menu entry.
    pub fn entry(
        &mut self,
        name: &str,
        commands: &mut dyn Commands,
        variables: &mut Variables,
    ) -> Option<Flow> {
        self.block(&[format!("{ENTRY}{name}")], commands, variables)
    }

    /// Runs a function.
    fn block(
        &mut self,
        words: &[String],
        commands: &mut dyn Commands,
        variables: &mut Variables,
    ) -> Option<Flow> {
        let nodes = self.blocks.get(words.first()?)?.clone();
        for (number, word) in words.iter().enumerate() {
            variables.insert(number.to_string(), word.clone());
        }
        Some(self.list(&nodes, commands, variables))
    }

    fn list(&mut self, nodes: &[Node], commands: &mut dyn Commands, variables: &mut Variables) -> Flow {
        let mut last = true;
        for node in nodes {
            match self.node(node, commands, variables) {
                Flow::Done(status) => last = status,
                end => return end,
            }
        }
        Flow::Done(last)
    }

    fn node(&mut self, node: &Node, commands: &mut dyn Commands, variables: &mut Variables) -> Flow {
        match node {
            Node::Block(name, nodes) => {
                self.blocks.insert(name.clone(), nodes.clone());
                Flow::Done(true)
            }
            Node::If(arms, otherwise) => {
                for (condition, then) in arms {
                    match self.list(condition, commands, variables) {
                        Flow::Done(true) => return self.list(then, commands, variables),
                        Flow::Done(false) => {}
                        end => return end,
                    }
                }
                self.list(otherwise, commands, variables)
            }
            Node::Command(pieces) => {
                let words = expand(pieces, variables);
                let defined = self.block(&words, commands, variables);
                defined.unwrap_or_else(|| commands.run(variables, &words))
            }
        }
    }
}

/// Words with their variables put in; what stands outside of quotes is split at spaces and vanishes when empty.
fn expand(words: &[Vec<Piece>], variables: &Variables) -> Vec<String> {
    let mut expanded = Vec::new();
    for word in words {
        let mut current = None;
        for piece in word {
            match piece {
                Piece::Text(text) => current.get_or_insert_with(String::new).push_str(text),
                Piece::Variable { name, quoted } => {
                    let value = variables.get(name).map_or("", String::as_str);
                    if *quoted {
                        current.get_or_insert_with(String::new).push_str(value);
                        continue;
                    }
                    for (number, part) in value.split(' ').enumerate() {
                        if number > 0 {
                            expanded.extend(current.take());
                        }
                        if !part.is_empty() {
                            current.get_or_insert_with(String::new).push_str(part);
                        }
                    }
                }
            }
        }
        expanded.extend(current);
    }
    expanded
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    /// Statements up to one of the words `ends`, which is taken, or the end of the text.
    fn list(&mut self, ends: &[&str]) -> (Vec<Node>, Option<String>) {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            let Token::Word(word) = token else { continue };
            match literal(word) {
                Some(name) if ends.contains(&name) => return (nodes, Some(name.to_owned())),
                Some("if") => nodes.push(self.condition()),
                Some("function") => nodes.push(self.block("")),
                // An entry is no command: there is one named as the command `boot`.
                Some("menuentry") => nodes.push(self.block(ENTRY)),
                _ => {
                    let mut words = vec![word.clone()];
                    words.extend(self.rest());
                    nodes.push(Node::Command(words));
                }
            }
        }
        assert!(ends.is_empty(), "the script ends before one of {ends:?}");
        (nodes, None)
    }

    fn condition(&mut self) -> Node {
        let mut arms = Vec::new();
        loop {
            let (condition, _) = self.list(&["then"]);
            let (then, end) = self.list(&["elif", "else", "fi"]);
            arms.push((condition, then));
            match end.as_deref() {
                Some("elif") => {}
                Some("else") => return Node::If(arms, self.list(&["fi"]).0),
                _ => return Node::If(arms, Vec::new()),
            }
        }
    }

    fn block(&mut self, kind: &str) -> Node {
        let words = self.rest();
        let name = words.first().and_then(|word| literal(word)).unwrap_or_default().to_owned();
        assert!(words.last().is_some_and(|word| literal(word) == Some("{")), "{name}: no block");
        Node::Block(format!("{kind}{name}"), self.list(&["}"]).0)
    }

    /// The words up to the end of the line or a semicolon.
    fn rest(&mut self) -> Vec<Vec<Piece>> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.get(self.at) {
            words.push(word.clone());
            self.at += 1;
        }
        words
    }
}

fn literal(word: &[Piece]) -> Option<&str> {
    match word {
        [Piece::Text(text)] => Some(text),
        _ => None,
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<Vec<Piece>> = None;
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' if quote == Some(letter) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quote = Some(letter);
                // Even nothing in quotes is a word.
                push(word.get_or_insert_with(Vec::new), "");
            }
            '$' if quote != Some('\'') => {
                let braced = letters.next_if_eq(&'{').is_some();
                let mut name = String::new();
                let belongs = |letter: &char| {
                    letter.is_ascii_alphanumeric() || *letter == '_' || (braced && *letter != '}')
                };
                while let Some(letter) = letters.next_if(belongs) {
                    name.push(letter);
                }
                if braced {
                    assert_eq!(letters.next(), Some('}'), "${{{name}");
                }
                let piece = Piece::Variable { name, quoted: quote.is_some() };
                word.get_or_insert_with(Vec::new).push(piece);
            }
            _ if quote.is_some() => push(word.get_or_insert_with(Vec::new), letter.encode_utf8(&mut [0; 4])),
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '\n' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Next);
            }
            ' ' | '\t' | '\r' => tokens.extend(word.take().map(Token::Word)),
            _ => push(word.get_or_insert_with(Vec::new), letter.encode_utf8(&mut [0; 4])),
        }
    }
    assert_eq!(quote, None, "a quote is open at the end of the script");
    tokens.extend(word.map(Token::Word));
    tokens
}

fn push(word: &mut Vec<Piece>, text: &str) {
    match word.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => word.push(Piece::Text(text.to_owned())),
    }
}
