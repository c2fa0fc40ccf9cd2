//! Amounts in words, as a demand or a cheque writes them: `tysiąc sto dwadzieścia jeden złotych 01/100`.
//!
//! Numbers follow the spell-out rules of CLDR where usage leaves no choice. Where it does, one form is kept throughout:
//! Polish `tysiąc` and not `jeden tysiąc`, Italian `ventunomila` and `centotto`, English with `and` before the tens.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

use super::labels::upper_first;
use super::locale::{Locale, LocaleError, Plural, plural};
use crate::model::Currency;

/// Beyond it nobody has agreed on the names of numbers.
const LIMIT: u64 = 1_000_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gender {
    Masculine,
    Feminine,
    Neuter,
}
use Gender::{Feminine, Masculine, Neuter};

/// What is counted, in its forms for `one`, `few` and everything else.
#[derive(Debug, Clone, Copy)]
struct Noun(Gender, [&'static str; 3]);

impl Noun {
    fn form(&self, locale: Locale, n: u64) -> Result<&'static str, LocaleError> {
        let [one, few, rest] = self.1;
        Ok(match plural(locale, &n.to_string())? {
            Plural::One => one,
            Plural::Few => few,
            Plural::Many | Plural::Other => rest,
        })
    }
}

/// A noun whose `few` is the same as its `other`.
const fn two(one: &'static str, other: &'static str) -> Noun {
    Noun(Neuter, [one, other, other])
}

const fn same(gender: Gender, word: &'static str) -> Noun {
    Noun(gender, [word, word, word])
}

/// A currency and its hundredth. Polish and Italian write hundredths in digits and have no noun for them here.
struct Unit {
    code: &'static str,
    whole: Noun,
    hundredth: Noun,
}

const fn unit(code: &'static str, whole: Noun, hundredth: Noun) -> Unit {
    Unit { code, whole, hundredth }
}

const EN: &[Unit] = &[
    unit("CHF", two("Swiss franc", "Swiss francs"), two("centime", "centimes")),
    unit("CZK", two("Czech crown", "Czech crowns"), two("heller", "hellers")),
    unit("EUR", two("euro", "euros"), two("cent", "cents")),
    unit("GBP", two("pound", "pounds"), two("penny", "pence")),
    unit("PLN", two("zloty", "zlotys"), two("grosz", "groszy")),
    unit("RUB", two("rouble", "roubles"), two("kopeck", "kopecks")),
    unit("USD", two("US dollar", "US dollars"), two("cent", "cents")),
];
/// They stand before the number, and so never change.
const IT: &[Unit] = &[
    unit("CHF", same(Masculine, "franchi svizzeri"), NONE),
    unit("CZK", same(Masculine, "corone ceche"), NONE),
    unit("EUR", same(Masculine, "euro"), NONE),
    unit("GBP", same(Masculine, "sterline"), NONE),
    unit("PLN", same(Masculine, "zloty"), NONE),
    unit("RUB", same(Masculine, "rubli"), NONE),
    unit("USD", same(Masculine, "dollari USA"), NONE),
];
const PL: &[Unit] = &[
    unit("CHF", Noun(Masculine, ["frank szwajcarski", "franki szwajcarskie", "franków szwajcarskich"]), NONE),
    unit("CZK", Noun(Feminine, ["korona czeska", "korony czeskie", "koron czeskich"]), NONE),
    unit("EUR", same(Neuter, "euro"), NONE),
    unit("GBP", Noun(Masculine, ["funt szterling", "funty szterlingi", "funtów szterlingów"]), NONE),
    unit("PLN", Noun(Masculine, ["złoty", "złote", "złotych"]), NONE),
    unit("RUB", Noun(Masculine, ["rubel rosyjski", "ruble rosyjskie", "rubli rosyjskich"]), NONE),
    unit("USD", Noun(Masculine, ["dolar amerykański", "dolary amerykańskie", "dolarów amerykańskich"]), NONE),
];
const RU: &[Unit] = &[
    unit(
        "CHF",
        Noun(Masculine, ["швейцарский франк", "швейцарских франка", "швейцарских франков"]),
        Noun(Masculine, ["сантим", "сантима", "сантимов"]),
    ),
    unit(
        "CZK",
        Noun(Feminine, ["чешская крона", "чешские кроны", "чешских крон"]),
        Noun(Masculine, ["геллер", "геллера", "геллеров"]),
    ),
    unit("EUR", same(Neuter, "евро"), CENT_RU),
    unit(
        "GBP",
        Noun(Masculine, ["фунт стерлингов", "фунта стерлингов", "фунтов стерлингов"]),
        Noun(Masculine, ["пенс", "пенса", "пенсов"]),
    ),
    unit(
        "PLN",
        Noun(Masculine, ["польский злотый", "польских злотых", "польских злотых"]),
        Noun(Masculine, ["грош", "гроша", "грошей"]),
    ),
    unit("RUB", Noun(Masculine, ["рубль", "рубля", "рублей"]), Noun(Feminine, ["копейка", "копейки", "копеек"])),
    unit("USD", Noun(Masculine, ["доллар США", "доллара США", "долларов США"]), CENT_RU),
];
const CENT_RU: Noun = Noun(Masculine, ["цент", "цента", "центов"]);
const NONE: Noun = same(Masculine, "");

/// The amount in words: `Одна тысяча рублей 01 копейка`, `tysiąc złotych 01/100`, `euro mille/01`, `One thousand pounds
/// and one penny`.
///
/// # Errors
/// When there are no words for this currency in that language, when the amount is negative, has more decimals than the
/// currency or twelve digits or more before them.
pub fn in_words(locale: Locale, amount: Decimal, currency: Currency) -> Result<String, LocaleError> {
    let units = match locale {
        Locale::EnGb | Locale::EnIe => EN,
        Locale::It => IT,
        Locale::Pl => PL,
        Locale::Ru => RU,
    };
    let unit = units
        .iter()
        .find(|unit| unit.code == currency.code())
        .ok_or_else(|| LocaleError(format!("there are no words for an amount in {currency}")))?;
    let without = |what: &str| LocaleError(format!("there are no words for {amount} {currency}: {what}"));
    let hundredths = amount.checked_mul(Decimal::ONE_HUNDRED).ok_or_else(|| without("it is too large"))?.normalize();
    if amount < Decimal::ZERO {
        return Err(without("it is negative"));
    }
    if hundredths.scale() > 0 {
        return Err(without("it has parts of the smallest coin"));
    }
    let (whole, part) = hundredths
        .to_u64()
        .map(|all| (all / 100, all % 100))
        .filter(|(whole, _)| *whole < LIMIT)
        .ok_or_else(|| without("it is too large"))?;
    let noun = unit.whole.form(locale, whole)?;
    Ok(match locale {
        Locale::EnGb | Locale::EnIe => {
            let pence = match part {
                0 => String::new(),
                part => format!(" and {} {}", en(part), unit.hundredth.form(locale, part)?),
            };
            upper_first(&format!("{} {noun}{pence}", en(whole)))
        }
        Locale::It => format!("{noun} {}/{part:02}", it(whole)),
        Locale::Pl => format!("{} {noun} {part:02}/100", pl(whole, unit.whole.0)?),
        Locale::Ru => {
            let kopecks = unit.hundredth.form(locale, part)?;
            upper_first(&format!("{} {noun} {part:02} {kopecks}", ru(whole, unit.whole.0)?))
        }
    })
}

/// The word at that place of a table.
fn at(table: &[&'static str], n: u64) -> &'static str {
    usize::try_from(n).ok().and_then(|n| table.get(n)).copied().unwrap_or_default()
}

/// The digits in threes with the power of a thousand that each counts, the largest first, without empty ones.
fn thousands(n: u64) -> impl Iterator<Item = (u32, u64)> {
    (0..4).rev().map(move |power| (power, n / 1000_u64.pow(power) % 1000)).filter(|(_, part)| *part > 0)
}

/// Hundreds, tens and the rest below twenty, as words; what counts one and two depends on gender and is the caller's.
fn spaced(
    n: u64,
    hundreds: &[&'static str],
    tens: &[&'static str],
    below_twenty: impl Fn(u64) -> &'static str,
) -> String {
    let (hundred, rest) = (n / 100, n % 100);
    let (ten, last) = if rest < 20 { (0, rest) } else { (rest / 10, rest % 10) };
    let words = [at(hundreds, hundred), at(tens, ten), below_twenty(last)];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

const RU_BELOW_TWENTY: [&str; 20] = [
    "",
    "один",
    "два",
    "три",
    "четыре",
    "пять",
    "шесть",
    "семь",
    "восемь",
    "девять",
    "десять",
    "одиннадцать",
    "двенадцать",
    "тринадцать",
    "четырнадцать",
    "пятнадцать",
    "шестнадцать",
    "семнадцать",
    "восемнадцать",
    "девятнадцать",
];
const RU_TENS: [&str; 10] =
    ["", "", "двадцать", "тридцать", "сорок", "пятьдесят", "шестьдесят", "семьдесят", "восемьдесят", "девяносто"];
const RU_HUNDREDS: [&str; 10] =
    ["", "сто", "двести", "триста", "четыреста", "пятьсот", "шестьсот", "семьсот", "восемьсот", "девятьсот"];
const RU_POWERS: [Noun; 3] = [
    Noun(Feminine, ["тысяча", "тысячи", "тысяч"]),
    Noun(Masculine, ["миллион", "миллиона", "миллионов"]),
    Noun(Masculine, ["миллиард", "миллиарда", "миллиардов"]),
];

fn ru(n: u64, gender: Gender) -> Result<String, LocaleError> {
    if n == 0 {
        return Ok("ноль".to_owned());
    }
    let count = |n: u64, gender: Gender| {
        spaced(n, &RU_HUNDREDS, &RU_TENS, |last| match (last, gender) {
            (1, Feminine) => "одна",
            (1, Neuter) => "одно",
            (2, Feminine) => "две",
            _ => at(&RU_BELOW_TWENTY, last),
        })
    };
    joined(Locale::Ru, n, &RU_POWERS, |part, noun| count(part, noun.map_or(gender, |noun| noun.0)))
}

const PL_BELOW_TWENTY: [&str; 20] = [
    "",
    "jeden",
    "dwa",
    "trzy",
    "cztery",
    "pięć",
    "sześć",
    "siedem",
    "osiem",
    "dziewięć",
    "dziesięć",
    "jedenaście",
    "dwanaście",
    "trzynaście",
    "czternaście",
    "piętnaście",
    "szesnaście",
    "siedemnaście",
    "osiemnaście",
    "dziewiętnaście",
];
const PL_TENS: [&str; 10] = [
    "",
    "",
    "dwadzieścia",
    "trzydzieści",
    "czterdzieści",
    "pięćdziesiąt",
    "sześćdziesiąt",
    "siedemdziesiąt",
    "osiemdziesiąt",
    "dziewięćdziesiąt",
];
const PL_HUNDREDS: [&str; 10] =
    ["", "sto", "dwieście", "trzysta", "czterysta", "pięćset", "sześćset", "siedemset", "osiemset", "dziewięćset"];
const PL_POWERS: [Noun; 3] = [
    Noun(Masculine, ["tysiąc", "tysiące", "tysięcy"]),
    Noun(Masculine, ["milion", "miliony", "milionów"]),
    Noun(Masculine, ["miliard", "miliardy", "miliardów"]),
];

fn pl(n: u64, gender: Gender) -> Result<String, LocaleError> {
    match (n, gender) {
        (0, _) => return Ok("zero".to_owned()),
        (1, Feminine) => return Ok("jedna".to_owned()),
        (1, Neuter) => return Ok("jedno".to_owned()),
        _ => {}
    }
    joined(Locale::Pl, n, &PL_POWERS, |part, noun| match noun {
        Some(_) if part == 1 => String::new(),
        noun => spaced(part, &PL_HUNDREDS, &PL_TENS, |last| match (last, noun.map_or(gender, |noun| noun.0)) {
            // In a compound `jeden` keeps its form, `dwa` does not.
            (2, Feminine) => "dwie",
            _ => at(&PL_BELOW_TWENTY, last),
        }),
    })
}

/// The parts of a number, each with the name of its power in the form that it asks for.
fn joined(
    locale: Locale,
    n: u64,
    powers: &[Noun; 3],
    count: impl Fn(u64, Option<&Noun>) -> String,
) -> Result<String, LocaleError> {
    let mut words = Vec::new();
    for (power, part) in thousands(n) {
        let noun = (power as usize).checked_sub(1).and_then(|n| powers.get(n));
        words.push(count(part, noun));
        words.extend(noun.map(|noun| noun.form(locale, part)).transpose()?.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    Ok(words.join(" "))
}

const EN_BELOW_TWENTY: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const EN_TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const EN_POWERS: [&str; 4] = ["", " thousand", " million", " billion"];

fn en(n: u64) -> String {
    let below_thousand = |n: u64| {
        let (hundred, rest) = (n / 100, n % 100);
        let tens = match rest {
            0..20 => at(&EN_BELOW_TWENTY, rest).to_owned(),
            _ if rest % 10 == 0 => at(&EN_TENS, rest / 10).to_owned(),
            _ => format!("{}-{}", at(&EN_TENS, rest / 10), at(&EN_BELOW_TWENTY, rest % 10)),
        };
        match (hundred, rest) {
            (0, _) => tens,
            (_, 0) => format!("{} hundred", at(&EN_BELOW_TWENTY, hundred)),
            _ => format!("{} hundred and {tens}", at(&EN_BELOW_TWENTY, hundred)),
        }
    };
    if n == 0 {
        return below_thousand(0);
    }
    let mut written = String::new();
    for (power, part) in thousands(n) {
        // Up to a hundred thousand the parts are few enough to be read without a comma.
        let gap = match (power, part) {
            _ if written.is_empty() => "",
            (0, 1..100) => " and ",
            _ if n < 100_000 => " ",
            _ => ", ",
        };
        written = format!("{written}{gap}{}{}", below_thousand(part), at(&EN_POWERS, u64::from(power)));
    }
    written
}

const IT_BELOW_TWENTY: [&str; 20] = [
    "",
    "uno",
    "due",
    "tre",
    "quattro",
    "cinque",
    "sei",
    "sette",
    "otto",
    "nove",
    "dieci",
    "undici",
    "dodici",
    "tredici",
    "quattordici",
    "quindici",
    "sedici",
    "diciassette",
    "diciotto",
    "diciannove",
];
const IT_TENS: [&str; 10] =
    ["", "", "venti", "trenta", "quaranta", "cinquanta", "sessanta", "settanta", "ottanta", "novanta"];

fn it(n: u64) -> String {
    let millions = |n: u64, one: &str, several: &str| match n {
        0 => None,
        1 => Some(format!("un {one}")),
        n => Some(format!("{} {several}", it_word(n))),
    };
    let rest = Some(n % 1_000_000).filter(|rest| *rest > 0 || n == 0).map(it_word);
    [millions(n / 1_000_000_000, "miliardo", "miliardi"), millions(n / 1_000_000 % 1000, "milione", "milioni"), rest]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Below a million: one word, and `tré` where it ends the word without being all of it.
fn it_word(n: u64) -> String {
    let word = match n / 1000 {
        0 if n == 0 => "zero".to_owned(),
        0 => it_below_thousand(n),
        1 => format!("mille{}", it_below_thousand(n % 1000)),
        thousand => format!("{}mila{}", it_below_thousand(thousand), it_below_thousand(n % 1000)),
    };
    match word.strip_suffix("tre") {
        Some(before) if !before.is_empty() => format!("{before}tré"),
        _ => word,
    }
}

fn it_below_thousand(n: u64) -> String {
    let (hundred, rest) = (n / 100, n % 100);
    let (ten, last) = if rest < 20 { (0, rest) } else { (rest / 10, rest % 10) };
    let mut word = match hundred {
        0 => String::new(),
        1 => "cento".to_owned(),
        _ => format!("{}cento", at(&IT_BELOW_TWENTY, hundred)),
    };
    if rest == 8 || ten == 8 {
        word.truncate(word.trim_end_matches('o').len());
    }
    word.push_str(at(&IT_TENS, ten));
    if ten > 0 && (last == 1 || last == 8) {
        word.pop();
    }
    word.push_str(at(&IT_BELOW_TWENTY, last));
    word
}
