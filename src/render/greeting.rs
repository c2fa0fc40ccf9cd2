//! What an operator's greeting tells about the form of the letter that follows it.

use crate::model::Language;

/// Words of an English greeting that name nobody.
const NAMELESS: &[&str] = &[
    "account",
    "accountant",
    "accounting",
    "accounts",
    "afternoon",
    "all",
    "and",
    "billing",
    "board",
    "bookkeeper",
    "bookkeeping",
    "client",
    "clients",
    "colleague",
    "colleagues",
    "committee",
    "concern",
    "control",
    "controller",
    "credit",
    "customer",
    "customers",
    "dear",
    "department",
    "director",
    "directors",
    "evening",
    "everyone",
    "finance",
    "finances",
    "gentleman",
    "gentlemen",
    "good",
    "greetings",
    "hello",
    "hi",
    "it",
    "ladies",
    "lady",
    "ledger",
    "madam",
    "madams",
    "manager",
    "may",
    "mesdames",
    "morning",
    "office",
    "or",
    "our",
    "owner",
    "partner",
    "partners",
    "payable",
    "payments",
    "procurement",
    "purchase",
    "service",
    "services",
    "sir",
    "sirs",
    "team",
    "the",
    "there",
    "to",
    "trustees",
    "valued",
    "whom",
];

/// Beginnings of Italian greetings of a firm or of several people, `Gentili`, `Spett.le`; to be asked before [`ONE`].
const SEVERAL: &[&str] =
    &["spett", "gentili ", "gent.mi", "gent.li", "egregi ", "preg.mi", "cari ", "care ", "signori"];
/// Words that greet several people wherever they stand.
const SEVERAL_ANYWHERE: &[&str] = &["sigg", "signori", "signore/i", "tutti"];
/// Beginnings of Italian greetings of one person, also of those whom no name tells apart: `Gentile Cliente`.
const ONE: &[&str] = &[
    "gentile ",
    "gentilissim",
    "gent.",
    "gent ",
    "egregio ",
    "egregia ",
    "egr.",
    "egr ",
    "pregiatissim",
    "preg.",
    "illustre ",
    "illustrissim",
    "ill.",
    "chiar",
    "stimato ",
    "stimata ",
    "caro ",
    "cara ",
    "signor ",
    "signora ",
    "sig.",
    "dott.",
];

/// The greeting with the sign that ends it, when the operator left it out: a comma, in Russian an exclamation mark.
pub(super) fn closed(language: Language, salutation: &str) -> String {
    if salutation.ends_with(['!', ',', ':']) {
        return salutation.to_owned();
    }
    match language {
        Language::Ru => format!("{}!", salutation.trim_end_matches('.')),
        Language::En | Language::It | Language::Pl => format!("{salutation},"),
    }
}

/// Whether an English greeting names its reader, who is then `Yours sincerely`'s.
pub(super) fn names_reader(salutation: &str) -> bool {
    salutation
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '-'))
        .filter(|word| !word.is_empty())
        .any(|word| !NAMELESS.contains(&word.to_lowercase().as_str()))
}

/// Whether an Italian greeting speaks to one person, who is `Lei`; none when it does not tell.
pub(super) fn to_one_person(salutation: &str) -> Option<bool> {
    let greeting = salutation.trim().to_lowercase();
    let begins = |with: &&str| greeting.starts_with(*with);
    let mut words = greeting.split(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | ';'));
    // With its spaces: `E.` is the beginning of a name.
    let joined = [" e ", " ed "].iter().any(|and| greeting.contains(and));
    let people = greeting.split(',').filter(|part| ONE.iter().any(|with| part.trim().starts_with(with))).count();
    if joined || SEVERAL.iter().any(begins) || words.any(|word| SEVERAL_ANYWHERE.contains(&word)) || people > 1 {
        Some(false)
    } else {
        ONE.iter().any(begins).then_some(true)
    }
}
