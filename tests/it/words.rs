#![expect(clippy::unwrap_used, reason = "what is broken should stop the test")]
//! Amounts in words: grammar of four languages, and what has no words.

use dunningd::model::Currency;
use dunningd::render::locale::Locale;
use dunningd::render::words::in_words;
use proptest::prelude::*;
use rust_decimal::Decimal;

fn written(locale: Locale, amount: &str, currency: &str) -> String {
    in_words(locale, amount.parse().unwrap(), Currency::parse(currency).unwrap()).unwrap()
}

fn check(locale: Locale, cases: &[(&str, &str, &str)]) {
    for (amount, currency, expected) in cases {
        assert_eq!(written(locale, amount, currency), *expected, "{amount} {currency}");
    }
}

#[test]
fn polish_counts_zlote_and_writes_groszy_as_hundredths() {
    let cases = [
        ("0", "PLN", "zero złotych 00/100"),
        ("1", "PLN", "jeden złoty 00/100"),
        ("4.5", "PLN", "cztery złote 50/100"),
        ("12", "PLN", "dwanaście złotych 00/100"),
        ("14.07", "PLN", "czternaście złotych 07/100"),
        ("31", "PLN", "trzydzieści jeden złotych 00/100"),
        ("104.99", "PLN", "sto cztery złote 99/100"),
        ("212", "PLN", "dwieście dwanaście złotych 00/100"),
        ("999", "PLN", "dziewięćset dziewięćdziesiąt dziewięć złotych 00/100"),
        ("1000", "PLN", "tysiąc złotych 00/100"),
        ("2003", "PLN", "dwa tysiące trzy złote 00/100"),
        ("12000", "PLN", "dwanaście tysięcy złotych 00/100"),
        ("21000", "PLN", "dwadzieścia jeden tysięcy złotych 00/100"),
        ("1001000", "PLN", "milion tysiąc złotych 00/100"),
        ("3000000", "PLN", "trzy miliony złotych 00/100"),
        ("5000002", "PLN", "pięć milionów dwa złote 00/100"),
        ("1000000000", "PLN", "miliard złotych 00/100"),
        ("1", "EUR", "jedno euro 00/100"),
        ("2", "EUR", "dwa euro 00/100"),
        ("1", "CZK", "jedna korona czeska 00/100"),
        ("2", "CZK", "dwie korony czeskie 00/100"),
        ("21", "CZK", "dwadzieścia jeden koron czeskich 00/100"),
        ("32", "CZK", "trzydzieści dwie korony czeskie 00/100"),
        ("2000", "CZK", "dwa tysiące koron czeskich 00/100"),
        ("3", "USD", "trzy dolary amerykańskie 00/100"),
        ("5", "CHF", "pięć franków szwajcarskich 00/100"),
        ("1", "GBP", "jeden funt szterling 00/100"),
        ("100", "RUB", "sto rubli rosyjskich 00/100"),
    ];
    check(Locale::Pl, &cases);
}

#[test]
fn russian_agrees_in_gender_and_number() {
    let cases = [
        ("1", "RUB", "Один рубль 00 копеек"),
        ("3.22", "RUB", "Три рубля 22 копейки"),
        ("11.11", "RUB", "Одиннадцать рублей 11 копеек"),
        ("31.5", "RUB", "Тридцать один рубль 50 копеек"),
        ("102.04", "RUB", "Сто два рубля 04 копейки"),
        ("540", "RUB", "Пятьсот сорок рублей 00 копеек"),
        ("1014", "RUB", "Одна тысяча четырнадцать рублей 00 копеек"),
        ("2992.91", "RUB", "Две тысячи девятьсот девяносто два рубля 91 копейка"),
        ("12001", "RUB", "Двенадцать тысяч один рубль 00 копеек"),
        ("32000", "RUB", "Тридцать две тысячи рублей 00 копеек"),
        ("1001000", "RUB", "Один миллион одна тысяча рублей 00 копеек"),
        ("21000000", "RUB", "Двадцать один миллион рублей 00 копеек"),
        ("5000000000", "RUB", "Пять миллиардов рублей 00 копеек"),
        ("21.01", "EUR", "Двадцать одно евро 01 цент"),
        ("2.05", "EUR", "Два евро 05 центов"),
        ("1001", "EUR", "Одна тысяча одно евро 00 центов"),
        ("22", "CZK", "Двадцать две чешские кроны 00 геллеров"),
        ("21", "PLN", "Двадцать один польский злотый 00 грошей"),
        ("3.02", "PLN", "Три польских злотых 02 гроша"),
        ("4.03", "USD", "Четыре доллара США 03 цента"),
        ("5", "GBP", "Пять фунтов стерлингов 00 пенсов"),
        ("2.01", "CHF", "Два швейцарских франка 01 сантим"),
    ];
    check(Locale::Ru, &cases);
}

#[test]
fn italian_joins_its_words_and_puts_the_accent_at_their_end_only() {
    let cases = [
        ("0.5", "EUR", "euro zero/50"),
        ("3", "EUR", "euro tre/00"),
        ("8", "EUR", "euro otto/00"),
        ("23.07", "EUR", "euro ventitré/07"),
        ("28", "EUR", "euro ventotto/00"),
        ("81", "EUR", "euro ottantuno/00"),
        ("103", "EUR", "euro centotré/00"),
        ("108", "EUR", "euro centotto/00"),
        ("111", "EUR", "euro centoundici/00"),
        ("180", "EUR", "euro centottanta/00"),
        ("333", "EUR", "euro trecentotrentatré/00"),
        ("1003", "EUR", "euro milletré/00"),
        ("1008", "EUR", "euro milleotto/00"),
        ("1900", "EUR", "euro millenovecento/00"),
        ("3000", "EUR", "euro tremila/00"),
        ("23000", "EUR", "euro ventitremila/00"),
        ("21000", "EUR", "euro ventunomila/00"),
        ("123456.78", "EUR", "euro centoventitremilaquattrocentocinquantasei/78"),
        ("1000000", "EUR", "euro un milione/00"),
        ("1000003", "EUR", "euro un milione tre/00"),
        ("23000023", "EUR", "euro ventitré milioni ventitré/00"),
        ("2001000000", "EUR", "euro due miliardi un milione/00"),
        ("1000", "GBP", "sterline mille/00"),
        ("500", "USD", "dollari USA cinquecento/00"),
    ];
    check(Locale::It, &cases);
}

#[test]
fn english_says_and_as_the_british_do() {
    let cases = [
        ("0", "GBP", "Zero pounds"),
        ("1", "GBP", "One pound"),
        ("1.01", "GBP", "One pound and one penny"),
        ("14.4", "GBP", "Fourteen pounds and forty pence"),
        ("90", "GBP", "Ninety pounds"),
        ("300", "GBP", "Three hundred pounds"),
        ("999.99", "GBP", "Nine hundred and ninety-nine pounds and ninety-nine pence"),
        ("1100", "GBP", "One thousand one hundred pounds"),
        ("1121.01", "GBP", "One thousand one hundred and twenty-one pounds and one penny"),
        ("100018", "GBP", "One hundred thousand and eighteen pounds"),
        ("250300", "GBP", "Two hundred and fifty thousand, three hundred pounds"),
        ("1001000", "GBP", "One million, one thousand pounds"),
        ("3000000050", "GBP", "Three billion and fifty pounds"),
        ("1.01", "EUR", "One euro and one cent"),
        ("2", "USD", "Two US dollars"),
        ("1.02", "RUB", "One rouble and two kopecks"),
        ("5.01", "PLN", "Five zlotys and one grosz"),
        ("2.5", "CHF", "Two Swiss francs and fifty centimes"),
        ("1", "CZK", "One Czech crown"),
    ];
    for locale in [Locale::EnGb, Locale::EnIe] {
        check(locale, &cases);
    }
}

#[test]
fn what_has_no_words_is_refused() {
    let refused = [
        ("1", "JPY", "there are no words for an amount in JPY"),
        ("1", "KWD", "there are no words for an amount in KWD"),
        ("-0.01", "PLN", "there are no words for -0.01 PLN: it is negative"),
        ("0.005", "EUR", "there are no words for 0.005 EUR: it has parts of the smallest coin"),
        ("1000000000000", "EUR", "there are no words for 1000000000000 EUR: it is too large"),
        (
            "79228162514264337593543950335",
            "RUB",
            "there are no words for 79228162514264337593543950335 RUB: it is too large",
        ),
    ];
    for locale in [Locale::EnGb, Locale::It, Locale::Pl, Locale::Ru] {
        for (amount, currency, why) in refused {
            let error = in_words(locale, amount.parse().unwrap(), Currency::parse(currency).unwrap()).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
        // Trailing zeros are no parts of a coin.
        assert_eq!(written(locale, "7.1000", "EUR"), written(locale, "7.1", "EUR"));
        assert_eq!(written(locale, "-0.00", "EUR"), written(locale, "0", "EUR"));
    }
}

/// The number that the words say, read by the opposite way: the value of each word, added up from left to right. `skip`
/// names words without a value.
fn read(text: &str, words: &[(&str, u64)], skip: &[&str]) -> u64 {
    let (mut total, mut part) = (0, 0);
    let known = |word: &str| words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
    for word in text.split([' ', '-', ',']).filter(|word| !word.is_empty() && !skip.contains(word)) {
        let value = known(word).unwrap_or_else(|| panic!("{word:?} in {text:?}"));
        match value {
            1000.. => {
                total += part.max(1) * value;
                part = 0;
            }
            100 if words.contains(&("hundred", 100)) => part *= 100,
            value => part += value,
        }
    }
    total + part
}

const RU_WORDS: &[(&str, u64)] = &[
    ("ноль", 0),
    ("один", 1),
    ("одна", 1),
    ("два", 2),
    ("две", 2),
    ("три", 3),
    ("четыре", 4),
    ("пять", 5),
    ("шесть", 6),
    ("семь", 7),
    ("восемь", 8),
    ("девять", 9),
    ("десять", 10),
    ("одиннадцать", 11),
    ("двенадцать", 12),
    ("тринадцать", 13),
    ("четырнадцать", 14),
    ("пятнадцать", 15),
    ("шестнадцать", 16),
    ("семнадцать", 17),
    ("восемнадцать", 18),
    ("девятнадцать", 19),
    ("двадцать", 20),
    ("тридцать", 30),
    ("сорок", 40),
    ("пятьдесят", 50),
    ("шестьдесят", 60),
    ("семьдесят", 70),
    ("восемьдесят", 80),
    ("девяносто", 90),
    ("сто", 100),
    ("двести", 200),
    ("триста", 300),
    ("четыреста", 400),
    ("пятьсот", 500),
    ("шестьсот", 600),
    ("семьсот", 700),
    ("восемьсот", 800),
    ("девятьсот", 900),
    ("тысяча", 1000),
    ("тысячи", 1000),
    ("тысяч", 1000),
    ("миллион", 1_000_000),
    ("миллиона", 1_000_000),
    ("миллионов", 1_000_000),
    ("миллиард", 1_000_000_000),
    ("миллиарда", 1_000_000_000),
    ("миллиардов", 1_000_000_000),
];
const PL_WORDS: &[(&str, u64)] = &[
    ("zero", 0),
    ("jeden", 1),
    ("dwa", 2),
    ("trzy", 3),
    ("cztery", 4),
    ("pięć", 5),
    ("sześć", 6),
    ("siedem", 7),
    ("osiem", 8),
    ("dziewięć", 9),
    ("dziesięć", 10),
    ("jedenaście", 11),
    ("dwanaście", 12),
    ("trzynaście", 13),
    ("czternaście", 14),
    ("piętnaście", 15),
    ("szesnaście", 16),
    ("siedemnaście", 17),
    ("osiemnaście", 18),
    ("dziewiętnaście", 19),
    ("dwadzieścia", 20),
    ("trzydzieści", 30),
    ("czterdzieści", 40),
    ("pięćdziesiąt", 50),
    ("sześćdziesiąt", 60),
    ("siedemdziesiąt", 70),
    ("osiemdziesiąt", 80),
    ("dziewięćdziesiąt", 90),
    ("sto", 100),
    ("dwieście", 200),
    ("trzysta", 300),
    ("czterysta", 400),
    ("pięćset", 500),
    ("sześćset", 600),
    ("siedemset", 700),
    ("osiemset", 800),
    ("dziewięćset", 900),
    ("tysiąc", 1000),
    ("tysiące", 1000),
    ("tysięcy", 1000),
    ("milion", 1_000_000),
    ("miliony", 1_000_000),
    ("milionów", 1_000_000),
    ("miliard", 1_000_000_000),
    ("miliardy", 1_000_000_000),
    ("miliardów", 1_000_000_000),
];
const EN_WORDS: &[(&str, u64)] = &[
    ("zero", 0),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("hundred", 100),
    ("thousand", 1000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
];

/// The value of an Italian number below a million: the longest beginning that is known, again and again.
fn read_italian(text: &str) -> u64 {
    const WORDS: &[(&str, u64)] = &[
        ("zero", 0),
        ("uno", 1),
        ("due", 2),
        ("tré", 3),
        ("tre", 3),
        ("quattro", 4),
        ("cinque", 5),
        ("sei", 6),
        ("sette", 7),
        ("otto", 8),
        ("nove", 9),
        ("dieci", 10),
        ("undici", 11),
        ("dodici", 12),
        ("tredici", 13),
        ("quattordici", 14),
        ("quindici", 15),
        ("sedici", 16),
        ("diciassette", 17),
        ("diciotto", 18),
        ("diciannove", 19),
        ("venti", 20),
        ("vent", 20),
        ("trenta", 30),
        ("trent", 30),
        ("quaranta", 40),
        ("quarant", 40),
        ("cinquanta", 50),
        ("cinquant", 50),
        ("sessanta", 60),
        ("sessant", 60),
        ("settanta", 70),
        ("settant", 70),
        ("ottanta", 80),
        ("ottant", 80),
        ("novanta", 90),
        ("novant", 90),
        ("cento", 100),
        ("cent", 100),
        ("mille", 1000),
        ("mila", 1000),
    ];
    // `cento` gives its last letter to `otto` and `ottanta`.
    let text = text.replace("centott", "centoott");
    let (mut total, mut part, mut rest) = (0, 0, text.as_str());
    while !rest.is_empty() {
        let found = WORDS.iter().filter(|(word, _)| rest.starts_with(word)).max_by_key(|(word, _)| word.len());
        let (word, value) = found.unwrap_or_else(|| panic!("{rest:?} in {text:?}"));
        match value {
            1000 => {
                total = part.max(1) * 1000;
                part = 0;
            }
            100 => part = part.max(1) * 100,
            value => part += value,
        }
        rest = &rest[word.len()..];
    }
    total + part
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whoever_reads_the_words_arrives_at_the_amount(
        whole in prop_oneof![0..2000_u64, 0..2_000_000_u64, 0..1_000_000_000_000_u64],
        part in 0..100_u32,
    ) {
        let amount = format!("{whole}.{part:02}");

        let ru = written(Locale::Ru, &amount, "RUB").to_lowercase();
        let (words, kopecks) = ru.split_once(" рубл").unwrap();
        prop_assert_eq!(read(words, RU_WORDS, &[]), whole);
        prop_assert_eq!(kopecks.split(' ').nth(1).unwrap(), format!("{part:02}"));

        let pl = written(Locale::Pl, &amount, "PLN");
        let (words, groszy) = pl.split_once(" złot").unwrap();
        prop_assert_eq!(read(words, PL_WORDS, &[]), whole);
        let hundredths = format!(" {part:02}/100");
        prop_assert!(groszy.ends_with(&hundredths));

        let en = written(Locale::EnGb, &amount, "GBP").to_lowercase();
        let (words, pence) = en.split_once(" pound").unwrap();
        prop_assert_eq!(read(words, EN_WORDS, &["and"]), whole);
        let pence = pence.trim_start_matches('s').trim_start_matches(" and ").rsplit_once(' ').map_or(0, |(n, _)| read(n, EN_WORDS, &[]));
        prop_assert_eq!(pence, u64::from(part));

        let it = written(Locale::It, &amount, "EUR");
        let (words, cents) = it.strip_prefix("euro ").unwrap().split_once('/').unwrap();
        prop_assert_eq!(cents, format!("{part:02}"));
        let (billions, rest) = words.split_once(" miliard").map_or((None, words), |(n, rest)| (Some(n), rest.get(1..).unwrap_or_default().trim()));
        let (millions, rest) = rest.split_once(" milion").map_or((None, rest), |(n, rest)| (Some(n), rest.get(1..).unwrap_or_default().trim()));
        let many = |n: Option<&str>| n.map_or(0, |n| if n == "un" { 1 } else { read_italian(n) });
        prop_assert_eq!(many(billions) * 1_000_000_000 + many(millions) * 1_000_000 + read_italian(rest), whole);
    }

    #[test]
    fn different_amounts_never_read_the_same(a in 0..10_000_000_i64, b in 0..10_000_000_i64) {
        let amount = |n: i64| Decimal::new(n, 2);
        for (locale, currency) in [(Locale::EnGb, "GBP"), (Locale::It, "EUR"), (Locale::Pl, "PLN"), (Locale::Ru, "RUB")] {
            let currency = Currency::parse(currency).unwrap();
            let same = in_words(locale, amount(a), currency).unwrap() == in_words(locale, amount(b), currency).unwrap();
            prop_assert_eq!(same, a == b);
        }
    }
}
