//! The message table of crates/wire/schema, parsed. Its grammar is described in README.md there.

/// The types that need no definition.
const BUILT_IN: &[&str] = &[
    "bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "float64", "uuid", "string",
    "bytes", "records",
];

/// The versions from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// What a message is, and so where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    Metadata,
    Data,
    ConsumerOffsetsKey,
    ConsumerOffsetsValue,
    TransactionStateKey,
    TransactionStateValue,
}

/// One message with everything below it.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub name: String,
    /// The API key or record type.
    pub key: Option<i16>,
    pub versions: Versions,
    /// The first flexible version.
    pub flexible_from: Option<i16>,
    pub latest_unstable: bool,
    /// The structures inside, each before the first that contains it; the message's own is last.
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn structure(&self, name: &str) -> &Struct {
        let found = self.structs.iter().find(|structure| structure.name == name);
        found.unwrap_or_else(|| panic!("{}: no structure {name}", self.name))
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }
}

/// Fields under one name.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// The type of the field, or of the elements of its array.
    pub base: String,
    pub is_array: bool,
    pub versions: Versions,
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    pub default: Option<String>,
    /// Fixed lengths also in flexible versions.
    pub is_fixed: bool,
}

/// Parses one file of the table.
pub fn parse(text: &str) -> Result<Vec<Message>, String> {
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(index, text)| Line {
            number: index + 1,
            indent: text.len() - text.trim_start().len(),
            words: text.split_whitespace().collect(),
        })
        .collect();
    let mut messages = Vec::new();
    let mut rest = lines.as_slice();
    while let [first, after @ ..] = rest {
        let end = after.iter().position(|line| line.indent == 0).unwrap_or(after.len());
        messages.push(message(first, &after[..end])?);
        rest = &after[end..];
    }
    Ok(messages)
}

struct Line<'t> {
    number: usize,
    indent: usize,
    words: Vec<&'t str>,
}

impl Line<'_> {
    fn error(&self, what: &str) -> String {
        format!("line {}: {what}: {}", self.number, self.words.join(" "))
    }
}

fn message(first: &Line<'_>, body: &[Line<'_>]) -> Result<Message, String> {
    let [kind, name, options @ ..] = first.words.as_slice() else {
        return Err(first.error("a message has a kind and a name"));
    };
    let kind = match *kind {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "metadata" => Kind::Metadata,
        "data" => Kind::Data,
        "consumer-offsets-key" => Kind::ConsumerOffsetsKey,
        "consumer-offsets-value" => Kind::ConsumerOffsetsValue,
        "transaction-state-key" => Kind::TransactionStateKey,
        "transaction-state-value" => Kind::TransactionStateValue,
        _ => return Err(first.error("unknown kind")),
    };
    let after = |word: &str| {
        let position = options.iter().position(|option| *option == word)?;
        options.get(position + 1).copied()
    };
    let open = Versions { min: 0, max: i16::MAX };
    let versions = after("versions").and_then(|text| range(text, open));
    let versions = versions.ok_or_else(|| first.error("no versions"))?;
    let flexible_from = match after("flexible") {
        Some("none") => None,
        Some(text) => Some(range(text, versions).ok_or_else(|| first.error("flexible?"))?.min),
        None => return Err(first.error("no flexible versions")),
    };
    let key = after("key").map(|text| text.parse().map_err(|_| first.error("key?"))).transpose()?;
    let mut message = Message {
        kind,
        name: (*name).to_owned(),
        key,
        versions,
        flexible_from,
        latest_unstable: options.contains(&"latest-unstable"),
        structs: Vec::new(),
    };
    let fields = fields(&mut message, body)?;
    message.structs.push(Struct { name: (*name).to_owned(), fields });
    check(&message)?;
    Ok(message)
}

fn fields(message: &mut Message, lines: &[Line<'_>]) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while let [first, after @ ..] = rest {
        let inside = |line: &Line<'_>| line.indent > first.indent;
        let end = after.iter().position(|line| !inside(line)).unwrap_or(after.len());
        let (below, next) = after.split_at(end);
        let name = if let ["struct", name] = first.words.as_slice() {
            (*name).to_owned()
        } else {
            let field = field(first, message.versions)?;
            fields.push(field.clone());
            field.base
        };
        if !below.is_empty() {
            let fields = self::fields(message, below)?;
            message.structs.push(Struct { name, fields });
        }
        rest = next;
    }
    Ok(fields)
}

fn field(line: &Line<'_>, all: Versions) -> Result<Field, String> {
    let [name, kind, options @ ..] = line.words.as_slice() else {
        return Err(line.error("a field has a name and a type"));
    };
    let (kind, is_nullable) = match kind.strip_suffix('?') {
        Some(kind) => (kind, true),
        None => (*kind, false),
    };
    let base = kind.strip_prefix("[]").unwrap_or(kind);
    let mut field = Field {
        name: (*name).to_owned(),
        base: base.to_owned(),
        is_array: base != kind,
        versions: all,
        nullable: None,
        tag: None,
        default: None,
        is_fixed: false,
    };
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        let mut argument = || options.next().ok_or_else(|| line.error("an option lacks its value"));
        match option {
            "nullable" => field.nullable = range(argument()?, all),
            "tag" => field.tag = Some(argument()?.parse().map_err(|_| line.error("tag?"))?),
            "default" => field.default = Some(argument()?.to_owned()),
            "fixed" => field.is_fixed = true,
            text => field.versions = range(text, all).ok_or_else(|| line.error("versions?"))?,
        }
    }
    if is_nullable {
        field.nullable = Some(field.versions);
    }
    Ok(field)
}

/// `3`, `3-7` or `3+`.
fn range(text: &str, all: Versions) -> Option<Versions> {
    if let Some(min) = text.strip_suffix('+') {
        return Some(Versions { min: min.parse().ok()?, max: all.max });
    }
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    Some(Versions { min: min.parse().ok()?, max: max.parse().ok()? })
}

/// What the generator relies on.
fn check(message: &Message) -> Result<(), String> {
    let error = |what: &str| Err(format!("{}: {what}", message.name));
    for (index, structure) in message.structs.iter().enumerate() {
        if message.structs[..index].iter().any(|other| other.name == structure.name) {
            return error("two structures of one name");
        }
        for field in &structure.fields {
            if field.tag.is_some()
                && message.flexible_from.is_none_or(|from| from > field.versions.min)
            {
                return error("a tag outside the flexible versions");
            }
            let is_known = BUILT_IN.contains(&field.base.as_str())
                || message.structs.iter().any(|other| other.name == field.base);
            if !is_known {
                return error(&format!("unknown type {}", field.base));
            }
            if field.tag.is_some() && field.base == "records" {
                return error("records in a tagged field");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_it_is_written() {
        let text = "request R key 3 versions 1-4 flexible 2+\n\
                    \x20 struct Shared\n\
                    \x20   Id  uuid\n\
                    \x20 Names  []string?  2-3 default null\n\
                    \x20 Parts  []Part     tag 1 2+\n\
                    \x20   Inner  Shared?\n\
                    \x20 Size   int32      nullable 4 default -1 fixed\n";
        let [message] = parse(text).unwrap().try_into().unwrap();
        let names: Vec<_> = message.structs.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["Shared", "Part", "R"]);
        assert_eq!((message.kind, message.key), (Kind::Request, Some(3)));
        assert_eq!(
            (message.versions, message.flexible_from),
            (Versions { min: 1, max: 4 }, Some(2))
        );
        let [names, parts, size] = message.structure("R").fields.as_slice() else { panic!() };
        assert!(names.is_array && names.base == "string");
        assert_eq!(names.nullable, Some(Versions { min: 2, max: 3 }));
        assert_eq!((parts.tag, parts.versions), (Some(1), Versions { min: 2, max: 4 }));
        assert_eq!(size.nullable, Some(Versions { min: 4, max: 4 }));
        assert!(size.is_fixed && size.default.as_deref() == Some("-1"));
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused() {
        let check = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("wish W versions 0 flexible none", "unknown kind");
        check("data D flexible none", "no versions");
        check("data D versions 0", "no flexible versions");
        check("data D versions 0 flexible none\n  Name", "a name and a type");
        check("data D versions 0 flexible none\n  Name string twice", "versions?");
        check("data D versions 0 flexible none\n  Name string tag", "lacks its value");
        check("data D versions 0 flexible none\n  Name string tag 0", "outside the flexible");
        check("data D versions 0 flexible 0+\n  Name records tag 0", "records in a tagged");
        check("data D versions 0 flexible none\n  A D\n    B int8", "two structures of one name");
        check("data D versions 0 flexible none\n  A Nowhere", "unknown type Nowhere");
    }
}
