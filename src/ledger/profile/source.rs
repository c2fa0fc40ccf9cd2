//! Where a field gets its value from: a template over the row's columns, a lookup, or a condition.

use std::collections::BTreeMap;

/// One way of making a value out of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) enum Source {
    /// `"{customerID}"`, `"Debtor {customerID}"`, `"invoice"`.
    Template(Template),
    /// `{ lookup = "countryCode", gives = "currency" }`.
    Lookup { column: String, gives: String },
    /// `{ when = "Disputed", is = ["Yes"], is_not = ["No"], then = "{InvoiceDate}", otherwise = "" }`.
    When { column: String, is: Vec<String>, is_not: Vec<String>, then: Template, otherwise: Template },
    /// `{ when_filled = "SettledDate", then = "0", otherwise = "{InvoiceAmount}" }`.
    WhenFilled { column: String, then: Template, otherwise: Template },
}

/// The rows of a `[lookup.COLUMN]` table: key, then attribute, then value.
pub(in crate::ledger) type Lookup = BTreeMap<String, BTreeMap<String, String>>;

/// A row's value that has no place in the profile.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Fault {
    pub(in crate::ledger) column: String,
    pub(in crate::ledger) value: String,
    pub(in crate::ledger) reason: String,
}

impl Source {
    /// The value for a row; empty when there is none. `cell` gives the trimmed text of a column.
    pub(in crate::ledger) fn value<'r>(
        &self,
        cell: &impl Fn(&str) -> &'r str,
        lookups: &BTreeMap<String, Lookup>,
    ) -> Result<String, Fault> {
        match self {
            Self::Template(template) => Ok(template.fill(cell)),
            Self::Lookup { column, gives } => {
                let key = cell(column);
                let table = lookups.get(column);
                let found = table.and_then(|table| table.get(key)).and_then(|row| row.get(gives));
                found.cloned().ok_or_else(|| Fault {
                    column: column.clone(),
                    value: key.to_owned(),
                    reason: format!(
                        "not in [lookup.{column}] of the profile ({}); add it there",
                        table.map(|table| shortened(table.keys())).unwrap_or_default()
                    ),
                })
            }
            Self::When { column, is, is_not, then, otherwise } => {
                let value = cell(column);
                if is.iter().any(|known| known == value) {
                    Ok(then.fill(cell))
                } else if is_not.iter().any(|known| known == value) {
                    Ok(otherwise.fill(cell))
                } else {
                    Err(Fault {
                        column: column.clone(),
                        value: value.to_owned(),
                        reason: format!(
                            "neither in `is` nor in `is_not` of the profile ({}); add it to one of them",
                            shortened(is.iter().chain(is_not))
                        ),
                    })
                }
            }
            Self::WhenFilled { column, then, otherwise } => {
                Ok(if cell(column).is_empty() { otherwise } else { then }.fill(cell))
            }
        }
    }

    /// The columns that it needs.
    pub(in crate::ledger) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Template(template) => template.columns().collect(),
            Self::Lookup { column, .. } => vec![column],
            Self::When { column, then, otherwise, .. } | Self::WhenFilled { column, then, otherwise } => {
                std::iter::once(column.as_str()).chain(then.columns()).chain(otherwise.columns()).collect()
            }
        }
    }

    /// The column to name when the value itself is wrong: the one it was copied from.
    pub(in crate::ledger) fn blamed_column(&self) -> Option<&str> {
        match self {
            Self::Template(template) => template.columns().next(),
            Self::Lookup { column, .. } => Some(column),
            Self::When { column, then, otherwise, .. } | Self::WhenFilled { column, then, otherwise } => {
                then.columns().chain(otherwise.columns()).next().or(Some(column))
            }
        }
    }
}

fn shortened<'k>(keys: impl Iterator<Item = &'k String>) -> String {
    let keys: Vec<&str> = keys.map(String::as_str).collect();
    let shown = keys.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    if keys.len() > 10 { format!("{shown}, …") } else { shown }
}

/// Text with columns in braces: `"ap+{customerID}@example.test"`, `"{invoiceNumber:0>10}"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ledger) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column { name: String, pad: Option<Pad> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pad {
    with: char,
    left: bool,
    width: usize,
}

/// Wider paddings are a slip of the pen.
const MAX_PAD: usize = 200;

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub(in crate::ledger) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let Some((inside, after)) = brace.strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
                return Err("a brace that has no partner; write {{ or }} for a brace of its own".to_owned());
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::column(inside)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// A text without columns.
    pub(super) fn constant(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// The text for a row. Empty when any of its columns is: half a value (`ap+@example.test`) would be a wrong one.
    pub(in crate::ledger) fn fill<'r>(&self, cell: &impl Fn(&str) -> &'r str) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Column { name, pad } => {
                    let value = cell(name);
                    if value.is_empty() {
                        return String::new();
                    }
                    let missing = pad.map_or(0, |pad| pad.width.saturating_sub(value.chars().count()));
                    let (before, after) = match pad {
                        Some(pad) if pad.left => (missing, 0),
                        _ => (0, missing),
                    };
                    let with = pad.map_or(' ', |pad| pad.with);
                    filled.extend(std::iter::repeat_n(with, before));
                    filled.push_str(value);
                    filled.extend(std::iter::repeat_n(with, after));
                }
            }
        }
        filled
    }

    /// The columns that it names.
    pub(in crate::ledger) fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }
}

impl Part {
    fn column(inside: &str) -> Result<Self, String> {
        let (name, pad) = match inside.rsplit_once(':') {
            Some((name, spec)) => (name, Some(Pad::parse(spec)?)),
            None => (inside, None),
        };
        let name = name.trim();
        if name.is_empty() {
            return Err("empty braces; write the name of a column in them".to_owned());
        }
        Ok(Self::Column { name: name.to_owned(), pad })
    }
}

impl Pad {
    fn parse(spec: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`:{spec}` is not a padding such as :0>10 (zeros on the left, 10 wide; at most {MAX_PAD}) or : <8")
        };
        let mut letters = spec.chars();
        let with = letters.next().ok_or_else(wrong)?;
        let left = match letters.next() {
            Some('>') => true,
            Some('<') => false,
            _ => return Err(wrong()),
        };
        let width = letters.as_str().parse().ok().filter(|width| (1..=MAX_PAD).contains(width)).ok_or_else(wrong)?;
        Ok(Self { with, left, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, value: &'static str) -> String {
        Template::parse(template).unwrap().fill(&|_: &str| value)
    }

    #[test]
    fn a_template_pads_escapes_and_never_makes_half_a_value() {
        assert_eq!(filled("{n:0>10}", "136962706"), "0136962706");
        assert_eq!(filled("{n:0>10}", "12345678901"), "12345678901");
        assert_eq!(filled("{n:.<4}|", "ab"), "ab..|");
        assert_eq!(filled("ap+{n}@debtor.test", "7"), "ap+7@debtor.test");
        assert_eq!(filled("ap+{n}@debtor.test", ""), "");
        assert_eq!(filled("{{{n}}}", "x"), "{x}");
        assert_eq!(
            Template::parse("{n").unwrap_err(),
            "a brace that has no partner; write {{ or }} for a brace of its own"
        );
        assert!(Template::parse("{n:10}").is_err());
        assert!(Template::parse("{n:0>9999}").is_err());
    }
}
