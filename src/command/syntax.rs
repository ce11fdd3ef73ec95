//! The notation of a row's `syntax`: what COMMAND DOCS tells of arguments.
//!
//! It is parsed when somebody asks; nothing of it is kept.
//!
//! | written | is |
//! | --- | --- |
//! | `value` | a string of that name |
//! | `count:int` | of that type: `int`, `double`, `pattern` or `time` (of Unix) |
//! | `key#0` | a key, of the first key specification |
//! | `by-pattern:pattern#1` | of another type, but bound to a key specification |
//! | `NX` | a word as it stands; its name is the same in lower case |
//! | `change=CH`, `equal='='` | a word with another name, or of signs |
//! | `EX seconds:int` | an argument behind a word |
//! | `addr'ip:port'` | shown under another name |
//! | `data(field value)` | arguments that belong together |
//! | `order(ASC\|DESC)` | one of these |
//! | `[...]` | what stands in it may be left out |
//! | `member...` | once or more |
//! | `GET... pattern` | once or more, the word each time |
//! | `NX@6.2.0` | since that version; `@-2.8.12`: out of date since then |

/// Types of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    /// As COMMAND DOCS names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }

    fn written(name: &str) -> Option<Kind> {
        Some(match name {
            "int" => Kind::Integer,
            "double" => Kind::Double,
            "pattern" => Kind::Pattern,
            "time" => Kind::UnixTime,
            _ => return None,
        })
    }
}

/// An argument, or several as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument<'a> {
    pub name: String,
    pub kind: Kind,
    /// What a hint shows, if it is not the name.
    pub display: Option<&'a str>,
    pub key_spec: Option<usize>,
    pub token: Option<&'a str>,
    pub since: Option<&'a str>,
    pub deprecated_since: Option<&'a str>,
    pub optional: bool,
    pub multiple: bool,
    /// The token stands before each.
    pub multiple_token: bool,
    /// Those of a block or a choice.
    pub arguments: Vec<Argument<'a>>,
}

/// The arguments, or where the notation is wrong and how.
pub fn parse(text: &str) -> Result<Vec<Argument<'_>>, String> {
    let mut reader = Reader { text, at: 0 };
    let found = if text.is_empty() { Vec::new() } else { reader.list(' ')? };
    if reader.at < text.len() { Err(reader.wrong("end of text")) } else { Ok(found) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn is_token(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'
}

fn is_version(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, wanted: &str) -> String {
        format!("{wanted} expected at `{}`", self.rest())
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(self.wrong(sign)) }
    }

    fn run(&mut self, of: fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn some(&mut self, of: fn(char) -> bool, what: &str) -> Result<&'a str, String> {
        match self.run(of) {
            "" => Err(self.wrong(what)),
            found => Ok(found),
        }
    }

    /// What stands between apostrophes, the first of which has been taken.
    fn quoted(&mut self) -> Result<&'a str, String> {
        let rest = self.rest();
        let end = rest.find('\'').ok_or_else(|| self.wrong("a closing apostrophe"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn list(&mut self, between: char) -> Result<Vec<Argument<'a>>, String> {
        let mut found = vec![self.item()?];
        while self.rest().starts_with(between) {
            self.at += 1;
            found.push(self.item()?);
        }
        Ok(found)
    }

    fn item(&mut self) -> Result<Argument<'a>, String> {
        let optional = self.take("[");
        let mut found = self.argument()?;
        found.multiple |= self.take("...");
        if self.take("@") {
            found.since = Some(self.run(is_version)).filter(|v| !v.is_empty());
            found.deprecated_since = if self.take("-") { Some(self.some(is_version, "a version")?) } else { None };
        }
        if optional {
            self.expect("]")?;
            found.optional = true;
        }
        Ok(found)
    }

    fn argument(&mut self) -> Result<Argument<'a>, String> {
        if !self.rest().starts_with(|c: char| c.is_ascii_uppercase()) {
            return self.named();
        }
        let token = self.some(is_token, "a token")?;
        let repeated = self.rest().starts_with("... ");
        let before = self.at;
        let behind = self.take("... ") || self.take(" ");
        if behind && self.rest().starts_with(|c: char| c.is_ascii_lowercase()) {
            let mut found = self.named()?;
            found.token = Some(token);
            found.multiple |= repeated;
            found.multiple_token = repeated;
            return Ok(found);
        }
        self.at = before;
        Ok(Argument { token: Some(token), ..Argument::new(token.to_ascii_lowercase(), Kind::PureToken) })
    }

    fn named(&mut self) -> Result<Argument<'a>, String> {
        let name = self.some(is_name, "a name")?;
        let mut found = Argument::new(name.to_owned(), Kind::String);
        if self.take("=") {
            let token = if self.take("'") { self.quoted()? } else { self.some(is_token, "a token")? };
            return Ok(Argument { token: Some(token), kind: Kind::PureToken, ..found });
        }
        found.display = if self.take("'") { Some(self.quoted()?) } else { None };
        if self.take("(") {
            self.group(&mut found)?;
        } else {
            self.typed(&mut found)?;
        }
        Ok(found)
    }

    fn typed(&mut self, found: &mut Argument<'a>) -> Result<(), String> {
        if self.take(":") {
            let kind = self.some(is_name, "a type")?;
            found.kind = Kind::written(kind).ok_or_else(|| format!("no type `{kind}`"))?;
        }
        if self.take("#") {
            let number = self.some(|c| c.is_ascii_digit(), "a number")?;
            found.key_spec = Some(number.parse().map_err(|_| self.wrong("a small number"))?);
            found.kind = if found.kind == Kind::String { Kind::Key } else { found.kind };
        }
        Ok(())
    }

    fn group(&mut self, found: &mut Argument<'a>) -> Result<(), String> {
        let first = self.item()?;
        let between = if self.rest().starts_with('|') { '|' } else { ' ' };
        found.kind = if between == '|' { Kind::OneOf } else { Kind::Block };
        found.arguments.push(first);
        if self.rest().starts_with(between) {
            self.at += 1;
            found.arguments.extend(self.list(between)?);
        }
        self.expect(")")
    }
}

impl Argument<'_> {
    fn new(name: String, kind: Kind) -> Self {
        Argument {
            name,
            kind,
            display: None,
            key_spec: None,
            token: None,
            since: None,
            deprecated_since: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            arguments: Vec::new(),
        }
    }

    /// The fewest arguments of a request that these are.
    pub fn least(&self) -> usize {
        if self.optional {
            return 0;
        }
        let own = match self.kind {
            Kind::OneOf => self.arguments.iter().map(Argument::least).min().unwrap_or(0),
            Kind::Block => self.arguments.iter().map(Argument::least).sum(),
            Kind::PureToken => 0,
            _ => 1,
        };
        own + usize::from(self.token.is_some())
    }

    /// May there be more than these?
    pub fn varies(&self) -> bool {
        let least = self.arguments.first().map(Argument::least);
        let uneven = self.kind == Kind::OneOf && self.arguments.iter().any(|a| Some(a.least()) != least);
        self.optional || self.multiple || uneven || self.arguments.iter().any(Argument::varies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_of_the_notation() {
        let text = "key#0 [condition(NX|XX@2.6.12|IFEQ other)@2.0.0] [GET... by-pattern'pattern':pattern#1] \
                    [change=CH] equal='~' data(a:int b:double)... [LIMIT count:time...@6.2.0] old@-2.8.12 LAST";
        let found = parse(text).expect("right notation");
        let names: Vec<&str> = found.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["key", "condition", "by-pattern", "change", "equal", "data", "count", "old", "last"]);
        assert_eq!((found[0].kind, found[0].key_spec), (Kind::Key, Some(0)));
        let condition = &found[1];
        assert_eq!((condition.kind, condition.since, condition.optional), (Kind::OneOf, Some("2.0.0"), true));
        assert_eq!(condition.arguments[1].since, Some("2.6.12"));
        assert_eq!((condition.arguments[2].token, condition.arguments[2].kind), (Some("IFEQ"), Kind::String));
        let pattern = &found[2];
        assert_eq!((pattern.kind, pattern.key_spec, pattern.display), (Kind::Pattern, Some(1), Some("pattern")));
        assert!(pattern.multiple && pattern.multiple_token && pattern.optional);
        assert_eq!((found[3].kind, found[3].token), (Kind::PureToken, Some("CH")));
        assert_eq!(found[4].token, Some("~"));
        assert_eq!((found[5].kind, found[5].multiple, found[5].least()), (Kind::Block, true, 2));
        assert_eq!((found[6].kind, found[6].token, found[6].multiple_token), (Kind::UnixTime, Some("LIMIT"), false));
        assert_eq!((found[7].since, found[7].deprecated_since), (None, Some("2.8.12")));
        assert_eq!((found[8].kind, found[8].token), (Kind::PureToken, Some("LAST")));
    }

    #[test]
    fn what_is_not_notation_is_refused() {
        for text in [" ", "a  b", "[a", "a(b", "a(b|c d)", "a:number", "a#", "a@-", "a='x", "a]", "A..", "a(", "é"] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert_eq!(parse("").expect("nothing"), []);
    }
}
