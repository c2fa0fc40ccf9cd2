#![expect(clippy::unwrap_used, reason = "what is broken should stop the test")]
//! Letters: what they say in every language, what they refuse, and what data cannot do to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dunningd::model::{AppliedCredit, Currency, EmailAddress, Language, Letter, Mail, Mailbox, PartyKind, Rendered};
use dunningd::render::{RenderError, TemplateFinding, TemplateSet, reference};
use proptest::prelude::*;
use rust_decimal::Decimal;

/// Each with the situation that shows it.
const TEMPLATES: [(&str, &str); 8] = [
    ("courtesy", "before_due"),
    ("friendly", "one_item"),
    ("firm", "one_item"),
    ("call", "one_item"),
    ("final", "one_item"),
    ("formal", "one_item"),
    ("handover", "one_item"),
    ("plan_missed", "plan"),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shown(findings: &[TemplateFinding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

static SET: LazyLock<TemplateSet> =
    LazyLock::new(|| TemplateSet::builtin().unwrap_or_else(|findings| panic!("{}", shown(&findings))));

fn set() -> &'static TemplateSet {
    &SET
}

fn render(set: &TemplateSet, letter: &Letter) -> Rendered {
    set.render(letter).unwrap_or_else(|e| panic!("{e}"))
}

fn sample(set: &TemplateSet, name: &str, template: &str, language: Language) -> Letter {
    set.fixture(name, template, language).unwrap_or_else(|| panic!("no fixture {name}"))
}

fn every_letter(set: &TemplateSet) -> Vec<(String, Letter)> {
    Language::ALL.into_iter().flat_map(|language| set.fixtures(language)).collect()
}

fn readable(rendered: &Rendered) -> String {
    format!("Subject: {}\n\n{}", rendered.subject, rendered.text).replace('\u{a0}', "␣").replace('\u{202f}', "⍽")
}

// What letters say

#[test]
fn every_letter_in_every_language() {
    let set = set();
    for (template, situation) in TEMPLATES {
        for language in Language::ALL {
            assert!(set.catalog().has(template, language));
            let rendered = render(set, &sample(set, situation, template, language));
            insta::assert_snapshot!(format!("{template}_{language}"), readable(&rendered));
        }
    }
}

#[test]
fn situations_in_every_language() {
    let set = set();
    let situations = [
        ("many", "firm"),
        ("two_currencies", "firm"),
        ("two_payees", "final"),
        ("part_paid", "firm"),
        ("instalments", "friendly"),
        ("escalated", "friendly"),
        ("consumer", "friendly"),
        ("consumer", "call"),
        ("bare", "final"),
        ("many", "call"),
        ("hostile", "formal"),
        ("plan", "plan_missed"),
        ("plan_broken", "plan_missed"),
        ("posted", "friendly"),
        ("posted", "firm"),
    ];
    for (name, template) in situations {
        for language in Language::ALL {
            let rendered = render(set, &sample(set, name, template, language));
            insta::assert_snapshot!(format!("{name}_{template}_{language}"), readable(&rendered));
        }
    }
}

#[test]
fn no_abbreviation_at_the_end_of_a_sentence_leaves_two_full_stops() {
    let set = set();
    for (name, mut letter) in every_letter(set).into_iter().filter(|(name, _)| name != "hostile") {
        "Tre Aquiloni S.r.l.".clone_into(&mut letter.creditor_name);
        "Zielony Młyn Sp. z o.o.".clone_into(&mut letter.account_name);
        let text = render(set, &letter).text;
        assert!(!text.contains(".."), "{name} {} {}: {text}", letter.template, letter.language);
    }
}

#[test]
fn html_in_every_language() {
    let set = set();
    for language in Language::ALL {
        let rendered = render(set, &sample(set, "part_paid", "firm", language));
        insta::assert_snapshot!(format!("html_{language}"), rendered.html.replace('\u{a0}', "&nbsp;"));
    }
}

#[test]
fn subjects_are_short_and_carry_no_amount() {
    let set = set();
    for (name, letter) in every_letter(set).into_iter().filter(|(name, _)| name != "hostile") {
        // Instalments of a plan have a letter of their own.
        if name.starts_with("plan") && letter.template != "plan_missed" {
            continue;
        }
        let subject = render(set, &letter).subject;
        assert!(subject.chars().count() <= 64, "{name}: {subject}");
        for sign in ["£", "€", "₽", "zł", "$"] {
            assert!(!subject.contains(sign), "{name}: {subject}");
        }
    }
}

#[test]
fn a_formal_step_is_named_only_when_it_comes_next() {
    let set = set();
    let named = [
        (Language::En, "formal demand"),
        (Language::It, "messa in mora"),
        (Language::Pl, "wezwanie"),
        (Language::Ru, "претензию"),
    ];
    for (language, words) in named {
        let with = render(set, &sample(set, "one_item", "final", language)).text;
        assert!(flat(&with).contains(words), "{language}: {with}");
        let without = render(set, &sample(set, "bare", "final", language)).text;
        assert!(!flat(&without).contains(words), "{language}: {without}");
    }
}

#[test]
fn the_credits_of_an_item_are_named_with_what_of_them_covers_it() {
    let set = set();
    let named = [
        (
            Language::En,
            "Credit note CN-2 of 12 August 2026: -£25.00 Payment P-17 of 3 September 2026: -£15.00 of £2,000.00",
        ),
        (
            Language::It,
            "Nota di credito n. CN-2 in data 12 agosto 2026: -25,00 € Pagamento n. P-17 in data 3 settembre 2026: -15,00 € \
             su 2.000,00 €",
        ),
        (
            Language::Pl,
            "Faktura korygująca nr CN-2 z dnia 12 sierpnia 2026: -25,00 zł Wpłata nr P-17 z dnia 3 września 2026: -15,00 zł \
             z 2 000,00 zł",
        ),
        (
            Language::Ru,
            "Кредит-нота № CN-2 от 12 августа 2026 г.: -25,00 ₽ Платёж № P-17 от 3 сентября 2026 г.: -15,00 ₽ из 2 000,00 ₽",
        ),
    ];
    for (language, words) in named {
        let mut letter = sample(set, "part_paid", "firm", language);
        let text = flat(&render(set, &letter).text);
        assert!(text.contains(words), "{language}: {text}");
        // Six of them are one sum.
        let row = &mut letter.demands[0].rows[0];
        let part = row.credits[0].clone();
        row.credits = vec![AppliedCredit { amount: Decimal::from(8), ..part }; 5];
        assert!(flat(&render(set, &letter).text).contains("CN-2"));
        let row = &mut letter.demands[0].rows[0];
        for credit in &mut row.credits {
            credit.amount = Decimal::from(7);
        }
        row.credits.push(AppliedCredit { amount: Decimal::from(5), ..row.credits[0].clone() });
        let text = render(set, &letter).text;
        assert!(!text.contains("CN-2") && text.contains("40"), "{language}: {text}");
    }
}

/// What a reader of the text sees of each item and total: the words before the amounts, paragraph by paragraph.
fn labels_of(paragraph: &str) -> Vec<&str> {
    paragraph.lines().filter_map(|line| Some(line.strip_prefix("  ")?.split_once(": ")?.0)).collect()
}

#[test]
fn no_two_amounts_of_an_item_bear_one_name() {
    let set = set();
    for language in Language::ALL {
        let mut letter = sample(set, "part_paid", "firm", language);
        for (_, row) in &mut letter.information {
            row.credited = Decimal::from(300);
            row.to_pay = row.open - row.credited;
        }
        let rendered = render(set, &letter);
        for paragraph in rendered.text.split("\n\n") {
            let labels = labels_of(paragraph);
            let distinct: BTreeSet<&str> = labels.iter().copied().collect();
            assert_eq!(distinct.len(), labels.len(), "{language}: {paragraph}");
        }
        for table in rendered.html.split("<table style=\"width:100%").skip(1) {
            let table = table.split("</table>").next().unwrap();
            let Some((head, body)) = table.split_once("</thead>") else { continue };
            let amounts = visible(&format!("<body{}", head.rsplit_once("<th ").unwrap().1));
            let facts = visible(&format!("<body>{body}"));
            assert!(!facts.contains(&format!(" {}: ", amounts.trim())), "{language}: {amounts} over {facts}");
        }
    }
}

#[test]
fn what_is_asked_for_has_a_name_that_nothing_else_bears() {
    let set = set();
    let names = [
        (Language::En, "To pay"),
        (Language::It, "Da pagare"),
        (Language::Pl, "Do zapłaty"),
        (Language::Ru, "К оплате"),
    ];
    for (language, to_pay) in names {
        let letter = sample(set, "part_paid", "firm", language);
        let text = render(set, &letter).text;
        let paragraphs: Vec<&str> = text.split("\n\n").filter(|part| labels_of(part).len() > 1).collect();
        let asked = paragraphs.iter().filter(|part| labels_of(part).contains(&to_pay)).count();
        assert_eq!(asked, letter.demands[0].rows.len(), "{language}: {text}");
        let listed = paragraphs.iter().find(|part| part.contains("2026/140")).unwrap();
        assert!(!labels_of(listed).contains(&to_pay), "{language}: {listed}");
    }
}

/// A letter to a debtor of that kind, in the operator's words for the person when there are any.
fn greeted(template: &str, language: Language, kind: PartyKind, salutation: Option<&str>) -> String {
    let set = set();
    let mut letter = sample(set, "one_item", template, language);
    letter.party_kind = kind;
    letter.salutation = salutation.map(str::to_owned);
    flat(&render(set, &letter).text)
}

#[test]
fn italian_says_lei_to_whom_it_greets_as_one_person_and_voi_to_all_others() {
    use PartyKind::{Company, Consumer, SoleTrader, Unknown};
    let greetings = [
        (Company, None, false),
        (SoleTrader, None, false),
        (Consumer, None, true),
        (Unknown, None, true),
        (Company, Some("Gentile Dott. Rossi,"), true),
        (Company, Some("Gent.ma Sig.ra Bellini,"), true),
        (Company, Some("Egr. Ing. Bianchi,"), true),
        (Company, Some("Caro Marco,"), true),
        (Company, Some("Gent. Sig. E. Rossi,"), true),
        (Company, Some("Gentile Sig. Rossi e Sig.ra Bianchi,"), false),
        (Company, Some("Spett.le Ufficio Contabilità,"), false),
        (Company, Some("Gentili Signori,"), false),
        (Company, Some("Gentile Sig. Rossi, gentile Sig.ra Bianchi,"), false),
        (Company, Some("Gent. Sigg. Rossi,"), false),
        (Company, Some("Buongiorno,"), false),
        (Consumer, Some("Buongiorno,"), true),
        (Consumer, Some("Gentili Signori Rossi,"), false),
    ];
    for template in ["courtesy", "friendly", "firm", "plan_missed", "final", "formal"] {
        for (kind, salutation, lei) in greetings {
            let text = greeted(template, Language::It, kind, salutation);
            let words: BTreeSet<&str> = text.split(' ').collect();
            let voi = ["Vi", "Voi", "Vostro", "Vostra"].iter().any(|word| words.contains(word));
            let asked = ["La preghiamo", "La invitiamo", "Le scriviamo", "Le ricordiamo"];
            let to_one = asked.iter().any(|words| text.contains(words));
            assert_eq!((to_one, voi), (lei, !lei), "{template}, {salutation:?}: {text}");
        }
    }
}

#[test]
fn english_is_sincere_only_to_whom_it_names() {
    let closings = [
        (None, "Yours faithfully,"),
        (Some("Dear Sir or Madam,"), "Yours faithfully,"),
        (Some("Dear Madam or Sir"), "Yours faithfully,"),
        (Some("Dear Sirs,"), "Yours faithfully,"),
        (Some("dear sir/madam,"), "Yours faithfully,"),
        (Some("Dear Customer,"), "Yours faithfully,"),
        (Some("To whom it may concern:"), "Yours faithfully,"),
        (Some("Ladies and Gentlemen,"), "Yours faithfully,"),
        (Some("Dear Accounts Payable Team,"), "Yours faithfully,"),
        (Some("Hello,"), "Yours faithfully,"),
        (Some("Dear Purchase Ledger,"), "Yours faithfully,"),
        (Some("Dear Credit Control Team,"), "Yours faithfully,"),
        (Some("Dear Controller,"), "Yours faithfully,"),
        (Some("Dear Customer Services,"), "Yours faithfully,"),
        (Some("Dear Procurement Department,"), "Yours faithfully,"),
        (Some("Dear Bookkeeper"), "Yours faithfully,"),
        (Some("Dear Trustees,"), "Yours faithfully,"),
        (Some("Dear Billing Team,"), "Yours faithfully,"),
        (Some("Dear Ms Carter,"), "Yours sincerely,"),
        (Some("Dear Jane Smith,"), "Yours sincerely,"),
        (Some("Dear Sir John,"), "Yours sincerely,"),
        (Some("Good morning Jane,"), "Yours sincerely,"),
    ];
    for template in ["courtesy", "friendly", "firm", "plan_missed", "final", "formal"] {
        for kind in [PartyKind::Company, PartyKind::Consumer] {
            for (salutation, closing) in closings {
                let text = greeted(template, Language::En, kind, salutation);
                let said: Vec<&str> = ["Yours faithfully,", "Yours sincerely,"]
                    .into_iter()
                    .filter(|closing| text.contains(closing))
                    .collect();
                assert_eq!(said, [closing], "{template}, {salutation:?}");
            }
        }
    }
}

#[test]
fn a_greeting_ends_with_its_sign() {
    let greetings = [
        (Language::En, "Dear Ms Carter", "Dear Ms Carter, "),
        (Language::En, "Dear Ms Carter:", "Dear Ms Carter: "),
        (Language::En, "Dear John Smith Jr.", "Dear John Smith Jr., "),
        (Language::It, "Gentile Sig.ra Bellini", "Gentile Sig.ra Bellini, "),
        (Language::Pl, "Szanowna Pani", "Szanowna Pani, "),
        (Language::Pl, "Szanowna Pani!", "Szanowna Pani! "),
        (Language::Ru, "Уважаемая Анна Сергеевна", "Уважаемая Анна Сергеевна! "),
        (Language::Ru, "Уважаемая Анна Сергеевна.", "Уважаемая Анна Сергеевна! "),
        (Language::Ru, "Уважаемая Анна Сергеевна,", "Уважаемая Анна Сергеевна, "),
    ];
    for template in ["courtesy", "friendly", "firm", "plan_missed", "final", "formal"] {
        for (language, salutation, written) in greetings {
            let text = greeted(template, language, PartyKind::Company, Some(salutation));
            assert!(text.contains(written), "{template}: {text}");
        }
    }
}

#[test]
fn english_names_one_total_and_several() {
    let set = set();
    for template in ["friendly", "firm", "final"] {
        for (situation, words) in
            [("two_currencies", "Total to pay: £12,345.60 and €500.00."), ("many", "Total to pay: £24,505.68.")]
        {
            let text = flat(&render(set, &sample(set, situation, template, Language::En)).text);
            assert!(text.contains(words), "{template}, {situation}: {text}");
        }
    }
}

#[test]
fn a_russian_claim_names_both_parties_and_greets_where_that_is_fitting() {
    let company = greeted("formal", Language::Ru, PartyKind::Company, None);
    let head = "Кому: ООО «Ромашка», ИНН: 7736050003, ул. Садовая, д. 5, 115035, Москва От кого: ООО «Северный ветер», \
                ИНН: 7707083893, КПП: 770943002, ул. Примерная, д. 7, 190000, Санкт-Петербург Дата: 12 октября 2026 г.";
    assert!(company.starts_with(head), "{company}");
    assert!(company.contains("Претензия Уважаемые господа! Обязательство по оплате"), "{company}");
    assert!(company.contains("На основании статей 309 и 310 Гражданского кодекса Российской Федерации требуем"));
    let person = greeted("formal", Language::Ru, PartyKind::Consumer, None);
    assert!(person.contains("Претензия Обязательство по оплате"), "{person}");
    let named = greeted("formal", Language::Ru, PartyKind::Consumer, Some("Уважаемая Анна Сергеевна!"));
    assert!(named.contains("Претензия Уважаемая Анна Сергеевна! Обязательство"), "{named}");
    for text in [&company, &person, &named] {
        assert!(!text.contains("коллеги") && !text.contains("Здравствуйте"), "{text}");
        assert!(text.contains("С уважением, Мария Орлова ООО «Северный ветер»"), "{text}");
    }
}

#[test]
fn a_caller_asks_for_whom_the_kind_of_debtor_suggests() {
    use PartyKind::{Company, Consumer, PublicBody, SoleTrader, Unknown};
    let opening = |language: Language, kind| {
        let text = greeted("call", language, kind, None);
        let end = text.find(['?']).unwrap_or_else(|| panic!("{language}: nothing is asked"));
        text[..end].rsplit_once(": ").map_or_else(|| text[..end].to_owned(), |(_, asked)| asked.to_owned())
    };
    let asked = [
        (Language::En, Company, "the person who deals with your supplier payments, please"),
        (Language::En, PublicBody, "the person who deals with your supplier payments, please"),
        (Language::En, Consumer, "could I speak to Meadow Lane Bakery Ltd, please"),
        (
            Language::En,
            SoleTrader,
            "could I speak to Meadow Lane Bakery Ltd, or to whoever looks after payments, please",
        ),
        (Language::En, Unknown, "could I speak to Meadow Lane Bakery Ltd, or to whoever looks after payments, please"),
        (Language::It, Company, "potrei parlare con chi si occupa dei pagamenti ai fornitori"),
        (Language::It, Consumer, "parlo con Officine Bellini S.p.A."),
        (Language::It, SoleTrader, "parlo con Officine Bellini S.p.A. o con chi si occupa dei pagamenti"),
        (Language::It, Unknown, "parlo con Officine Bellini S.p.A. o con chi si occupa dei pagamenti"),
        (Language::Pl, Company, "czy mogę rozmawiać z osobą zajmującą się płatnościami"),
        (Language::Pl, Consumer, "czy mogę rozmawiać z [imię i nazwisko klienta]"),
        (
            Language::Pl,
            Unknown,
            "czy mogę rozmawiać z [imię i nazwisko klienta] lub z osobą zajmującą się płatnościami",
        ),
        (Language::Ru, Company, "с кем можно поговорить об оплате счетов"),
        (Language::Ru, Consumer, "можно поговорить с [имя и отчество]"),
        (Language::Ru, SoleTrader, "можно поговорить с [имя и отчество] или с тем, кто занимается оплатой счетов"),
        (Language::Ru, Unknown, "можно поговорить с [имя и отчество] или с тем, кто занимается оплатой счетов"),
    ];
    for (language, kind, words) in asked {
        let opening = opening(language, kind);
        assert!(opening.ends_with(words), "{language}, {kind:?}: {opening}");
    }
}

#[test]
fn an_english_caller_counts_the_amounts() {
    let set = set();
    let said = [
        ("one_item", "£1,234.50 is still unpaid."),
        ("two_currencies", "£12,345.60 and €500.00 are still unpaid."),
        ("part_paid", "£72.30 remains to be paid."),
    ];
    for (situation, words) in said {
        let text = flat(&render(set, &sample(set, situation, "call", Language::En)).text);
        assert!(text.contains(words), "{situation}: {text}");
    }
    let mut letter = sample(set, "two_currencies", "call", Language::En);
    letter.demands[0].rows[0].amount += Decimal::ONE;
    let text = flat(&render(set, &letter).text);
    assert!(text.contains("£12,345.60 and €500.00 remain to be paid."), "{text}");
}

#[test]
fn an_italian_demand_is_a_costituzione_in_mora_under_the_civil_code() {
    let text = greeted("formal", Language::It, PartyKind::Company, None);
    let words = "da valere quale formale costituzione in mora ai sensi e per gli effetti degli artt. 1219 e 2943 c.c.,";
    assert!(text.contains(words), "{text}");
    let head = "Destinatario: Officine Bellini S.p.A., partita IVA o codice fiscale: 01234567897, Corso Garibaldi 15, 10122 \
                Torino TO Creditore: Tre Aquiloni S.r.l., P. IVA: 07643520567, C.F.: 07643520567, Via dei Mercanti 8,";
    assert!(text.starts_with(head), "{text}");
    // A term under art. 1454 would end the contract.
    assert!(!text.to_lowercase().contains("diffida") && !text.contains("1454"), "{text}");
}

#[test]
fn a_polish_demand_has_the_sum_in_words_and_the_tax_numbers_of_both() {
    let text = greeted("formal", Language::Pl, PartyKind::Company, None);
    assert!(
        text.contains("zapłaty 1 234,50 zł (słownie: tysiąc dwieście trzydzieści cztery złote 50/100) z tytułu"),
        "{text}"
    );
    let head = "Adresat: Piekarnia Pod Lipą Sp. j., NIP: 5214349636, ul. Lipowa 3, 00-316 Warszawa Wierzyciel: Zielony \
                Młyn Sp. z o.o., NIP: 5260250274, KRS: 0000123456, ul. Długa 14,";
    assert!(text.starts_with(head), "{text}");
    // Of a person the number may be the PESEL, which is nobody's to send around.
    for kind in [PartyKind::Consumer, PartyKind::Unknown] {
        let text = greeted("formal", Language::Pl, kind, None);
        assert!(!text.contains("5214349636"), "{text}");
    }
    let set = set();
    let two = flat(&render(set, &sample(set, "two_currencies", "formal", Language::Pl)).text);
    let words = "(słownie: dwanaście tysięcy trzysta czterdzieści pięć złotych 60/100 i pięćset euro 00/100)";
    assert!(two.contains(words), "{two}");
}

#[test]
fn an_amount_that_has_no_words_stops_the_letter() {
    let set = set();
    let mut letter = sample(set, "one_item", "formal", Language::Pl);
    letter.demands[0].currency = Currency::parse("JPY").unwrap();
    let refused = set.render(&letter).expect_err("nobody wrote down the words for yen").to_string();
    assert!(refused.contains("there are no words for an amount in JPY"), "{refused}");
}

#[test]
fn a_claim_against_a_person_in_great_britain_says_what_the_protocol_asks_for() {
    let set = set();
    let letter = sample(set, "person_in_britain", "formal", Language::En);
    assert!(letter.protocol_claim);
    let rendered = render(set, &letter);
    insta::assert_snapshot!("person_in_britain_formal_en", readable(&rendered));
    let text = flat(&rendered.text);
    assert!(text.starts_with("Date: 12 October 2026 "), "{text}");
    assert!(text.contains("neither interest nor other charges are included, and none are being added"), "{text}");

    let refused = |letter: &Letter| set.render(letter).expect_err("the Protocol asks for more").to_string();
    let mut early = letter.clone();
    early.respond_by = Some(letter.date + chrono::Days::new(29));
    assert_eq!(
        refused(&early),
        "formal/en.md: under the Pre-Action Protocol for Debt Claims, a claim against a natural person in Great Britain must \
         leave 30 days to reply"
    );
    early.respond_by = None;
    assert!(refused(&early).contains("must leave 30 days to reply"));
    let mut italian = sample(set, "person_in_britain", "formal", Language::It);
    italian.protocol_claim = true;
    assert!(refused(&italian).contains("must name the Information Sheet that is enclosed"));
    for named in ["Information Sheet", "Reply Form", "Financial Statement"] {
        let dir = copy_with(&[
            ("formal/en.md", &|text| text.replace(named, "leaflet")),
            ("fixtures/person_in_britain.toml", &|text| text.replace("country = \"GB\"", "country = \"IE\"")),
        ]);
        let other = TemplateSet::load(dir.path()).unwrap_or_else(|findings| panic!("{}", shown(&findings)));
        let error = other.render(&letter).expect_err("an enclosure is not named").to_string();
        assert!(error.contains(&format!("must name the {named} that is enclosed")), "{error}");
    }
}

#[test]
fn no_letter_mentions_interest_or_fees() {
    let set = set();
    let words =
        ["interest", "interessi", "mora ai", "odsetk", "процент", "пени", "неустойк", "statutory", "rekompensat"];
    // A claim under the Pre-Action Protocol has to say whether any is being added.
    for (name, letter) in every_letter(set).into_iter().filter(|(_, letter)| !letter.protocol_claim) {
        let text = render(set, &letter).text.to_lowercase();
        for word in words {
            // `interest` also stands in no other sense in our letters.
            assert!(!text.contains(word) || word == "mora ai", "{name} {}: {word}", letter.language);
        }
    }
}

// Both forms say the same

/// The words that a reader of the HTML sees.
fn visible(html: &str) -> String {
    let body = html.split_once("<body").map_or(html, |(_, body)| body);
    let mut out = String::new();
    for (n, part) in body.split('<').enumerate() {
        let text = if n == 0 && !part.contains('>') { part } else { part.split_once('>').map_or("", |(_, text)| text) };
        out.push(' ');
        out.push_str(text);
    }
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&amp;", "&")];
    entities.iter().fold(out, |text, (entity, c)| text.replace(entity, c))
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_number_and_link_of_the_html_is_in_the_text() {
    let set = set();
    for (name, letter) in every_letter(set) {
        let rendered = render(set, &letter);
        let text = flat(&format!("{} {}", rendered.subject, rendered.text));
        for word in visible(&rendered.html).split_whitespace() {
            let number = word.trim_matches(|c: char| !c.is_ascii_digit());
            assert!(text.contains(number), "{name} {}/{}: {word}", letter.template, letter.language);
        }
        for link in rendered.html.split("href=\"").skip(1) {
            let link = link.split('"').next().unwrap_or_default().replace("&amp;", "&");
            assert!(text.contains(link.trim_start_matches("mailto:")), "{name}: {link}");
        }
    }
}

#[test]
fn amounts_hold_together() {
    let set = set();
    for (name, letter) in every_letter(set) {
        let rendered = render(set, &letter);
        for line in rendered.text.lines() {
            let sign_leads = letter.language == Language::En;
            let first = line.split(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ')')).next().unwrap();
            assert!(sign_leads || !matches!(first, "€" | "₽" | "zł"), "{name}: {line}");
            let prose = !line.starts_with("  ") && line.contains(' ') && !line.contains("{file}");
            assert!(!prose || line.chars().count() <= 76, "{name}: {line}");
        }
    }
}

#[test]
fn html_is_accessible_and_loads_nothing() {
    let set = set();
    for (name, letter) in every_letter(set) {
        let html = render(set, &letter).html;
        assert!(html.contains(&format!("<html lang=\"{}\" dir=\"ltr\"", letter.language)), "{name}");
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        let tables = html.matches("<table style=\"width:100%").count();
        assert_eq!(html.matches("<caption").count(), tables, "{name}");
        assert!(html.matches("<th scope=").count() >= tables && !html.contains("<th>"), "{name}");
        let tags: Vec<&str> = html.split('<').skip(1).map(|part| part.split('>').next().unwrap()).collect();
        for loads in ["src=", "url(", "@import", "background=\""] {
            assert!(!tags.iter().any(|tag| tag.contains(loads)), "{name}: {loads}");
        }
        for element in ["link", "img", "script", "iframe", "object", "form"] {
            assert!(!tags.iter().any(|tag| tag.split_whitespace().next() == Some(element)), "{name}: {element}");
        }
        for size in html.split("font-size:").skip(1) {
            let size: u32 = size.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
            // 1 px: the hidden line that mail clients show in their list.
            assert!(size >= 14 || size == 1 || size == 0, "{name}: {size}");
        }
    }
}

#[test]
fn the_name_of_the_attached_file_fits_a_message_however_long_the_account_number_is() {
    let named = |account: &str| {
        let mut letter = sample(set(), "many", "firm", Language::En);
        account.clone_into(&mut letter.account_id);
        let rendered = render(set(), &letter);
        let name = rendered.attachments[0].file_name.clone();
        assert!(rendered.text.contains(&name));
        let mailbox = || Mailbox { name: None, address: EmailAddress::parse("office@debtor.example").unwrap() };
        let mail = Mail {
            from: mailbox(),
            reply_to: mailbox(),
            to: mailbox(),
            message_id: "<n.1@creditor.example>".to_owned(),
            references: Vec::new(),
            date: chrono::DateTime::parse_from_rfc3339("2026-03-02T10:15:00+01:00").unwrap(),
            language: Language::En,
        };
        dunningd::deliver::build(&mail, &rendered).unwrap_or_else(|error| panic!("{name}: {error}"));
        name
    };
    assert_eq!(named("K-2026_1"), "open-items-K-2026_1.csv");
    assert_eq!(named(&"K".repeat(45)), format!("open-items-{}.csv", "K".repeat(45)));
    assert_eq!(named(&"1234567890".repeat(20)), "open-items-123456789012345678901234567890123456789012345.csv");
    assert_eq!(named(&format!("{}/2026", "К/".repeat(40))), "open-items-account.csv");
    assert_eq!(named("../../x"), "open-items-x.csv");
}

#[test]
fn more_items_than_a_letter_prints_are_attached() {
    let set = set();
    for language in Language::ALL {
        let letter = sample(set, "many", "firm", language);
        let rendered = render(set, &letter);
        let [attachment] = rendered.attachments.as_slice() else { panic!("{:?}", rendered.attachments) };
        assert!(attachment.file_name.is_ascii());
        assert!(rendered.text.contains(&attachment.file_name));
        let text = String::from_utf8(attachment.bytes.clone()).unwrap();
        insta::assert_snapshot!(format!("csv_{language}"), text.trim_start_matches('\u{feff}').replace("\r\n", "\n"));
        let separator = if language == Language::En { b',' } else { b';' };
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(&attachment.bytes[3..]);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 25);
        let amount = |row: &csv::StringRecord| row[11].replace(',', ".").parse::<Decimal>().unwrap();
        let (total, rows) = rows.split_last().unwrap();
        assert_eq!(rows.iter().map(amount).sum::<Decimal>(), amount(total));
        assert_eq!(amount(total), letter.demands[0].to_pay);
    }
    assert!(render(set, &sample(set, "one_item", "firm", Language::En)).attachments.is_empty());
}

#[test]
fn every_table_has_its_oldest_row_however_few_a_letter_prints() {
    let set = set();
    for language in Language::ALL {
        let mut letter = sample(set, "two_currencies", "firm", language);
        let older = sample(set, "many", "firm", language).demands.remove(0);
        letter.demands[0].rows = older.rows;
        letter.demands[0].open = older.open;
        letter.demands[0].to_pay = older.to_pay;
        for (rows_in_letter, shown) in [(1, 2), (2, 2), (3, 3), (10, 10)] {
            letter.rows_in_letter = Some(rows_in_letter);
            let rendered = render(set, &letter);
            let rows = |text: &str| text.lines().filter(|line| line.contains("2026/A-")).count();
            let newer =
                rendered.text.lines().filter(|line| line.ends_with("2026/E7") && !line.starts_with(' ')).count();
            assert_eq!(
                (rows(&rendered.text), newer),
                (shown - 1, 1),
                "{language}, {rows_in_letter}: {}",
                rendered.text
            );
            assert_eq!(rendered.attachments.len(), 1);
        }
    }
}

#[test]
fn what_is_posted_lists_everything_and_attaches_nothing() {
    let set = set();
    for language in Language::ALL {
        let letter = sample(set, "posted", "formal", language);
        let rows = |text: &str| text.lines().filter(|line| !line.starts_with(' ') && line.contains("2026/")).count();
        let posted = render(set, &letter);
        assert_eq!((rows(&posted.text), posted.attachments.len()), (6, 0), "{language}: {}", posted.text);
        assert!(!posted.text.contains(".csv"), "{language}");
        let sent = render(set, &Letter { by_post: false, rows_in_letter: Some(2), ..letter });
        assert_eq!((rows(&sent.text), sent.attachments.len()), (4, 1), "{language}: {}", sent.text);
    }
}

#[test]
fn who_gets_paper_is_told_where_to_write() {
    let set = set();
    for template in ["courtesy", "friendly", "firm", "final", "plan_missed"] {
        for language in Language::ALL {
            let situation = if template == "plan_missed" { "plan" } else { "one_item" };
            let letter = Letter { by_post: true, ..sample(set, situation, template, language) };
            let text = flat(&render(set, &letter).text);
            assert_eq!(text.matches(&letter.creditor_email).count(), 2, "{template}, {language}: {text}");
            for to_an_e_mail in ["e-mail ", "e-mail.", "wiadomość,", "wiadomość.", "на это письмо"] {
                assert!(!text.contains(to_an_e_mail), "{template}, {language}: {text}");
            }
        }
    }
}

#[test]
fn the_copy_of_a_posted_letter_says_so_and_keeps_the_words_of_the_letter() {
    let set = set();
    let first_words = [
        (Language::En, "Copy for your information. The original of this letter was sent to you by post."),
        (Language::It, "Copia per conoscenza. L'originale della presente è stato spedito per posta."),
        (Language::Pl, "Kopia do wiadomości. Oryginał niniejszego pisma wysłano pocztą."),
        (Language::Ru, "Копия для сведения. Оригинал этого письма отправлен вам по почте."),
    ];
    for (language, words) in first_words {
        let letter = sample(set, "posted", "formal", language);
        let posted = render(set, &letter);
        let copy = render(set, &Letter { copy_of_post: true, ..letter });
        assert_eq!(flat(&copy.text), format!("{words} {}", flat(&posted.text)));
        assert_eq!(copy.subject, posted.subject);
        let paragraph = format!("<p style=\"margin:0 0 16px\">{}</p>\n", words.replace('\'', "&#39;"));
        assert_eq!(copy.html.matches(&paragraph).count(), 1, "{language}: {}", copy.html);
        assert_eq!(copy.html.replace(&paragraph, ""), posted.html, "{language}");
    }
}

#[test]
fn every_letter_names_the_debtor_before_its_first_table() {
    let set = set();
    for (language, customer, number) in [
        (Language::En, "Customer", "Customer number"),
        (Language::It, "Cliente", "Codice cliente"),
        (Language::Pl, "Klient", "Numer klienta"),
        (Language::Ru, "Плательщик", "Номер клиента"),
    ] {
        for (name, letter) in set.fixtures(language).into_iter().filter(|(name, _)| name != "hostile") {
            let rendered = render(set, &letter);
            let lines = format!("{customer}: {}\n{number}: {}\n\n", letter.account_name, letter.account_id);
            assert_eq!(rendered.text.matches(&lines).count(), 1, "{name}: {}", rendered.text);
            let seen = flat(&visible(&rendered.html));
            assert!(seen.contains(lines.replace('\n', " ").trim()), "{name}: {seen}");
        }
    }
}

/// The last line of the payment details, without its label.
fn reference_of(set: &TemplateSet, letter: &Letter) -> String {
    let text = render(set, letter).text;
    let labels = ["Payment reference: ", "Causale: ", "Tytuł przelewu: ", "Назначение платежа: "];
    let found = text.lines().find_map(|line| labels.iter().find_map(|label| line.trim().strip_prefix(label)));
    found.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_payment_reference_names_the_documents() {
    let set = set();
    let written = [
        (Language::En, "77", "77, 78"),
        (Language::It, "77", "77, 78"),
        (Language::Pl, "77", "77, 78"),
        (Language::Ru, "Оплата по документу № 77 от 21.08.2026", "Оплата по документам № 77, 78"),
    ];
    for (language, one, several) in written {
        let mut letter = sample(set, "one_item", "firm", language);
        let rows = &mut letter.demands[0].rows;
        rows[0].document_no = "77".to_owned();
        for same in [None, Some("77"), Some(" ")] {
            letter.demands[0].rows[0].payment_reference = same.map(str::to_owned);
            assert_eq!(reference_of(set, &letter), one);
        }
        letter.demands[0].rows[0].payment_reference = Some("RF18 5390".to_owned());
        assert_eq!(reference_of(set, &letter), "RF18 5390");
        letter.demands[0].rows[0].payment_reference = None;
        letter.demands[0].rows[0].document_no = "№ 77".to_owned();
        let stripped = if language == Language::Ru { one } else { "№ 77" };
        assert_eq!(reference_of(set, &letter), stripped);

        let mut letter = sample(set, "posted", "firm", language);
        letter.demands[0].rows.truncate(2);
        letter.demands[0].rows[0].document_no = "77".to_owned();
        letter.demands[0].rows[1].document_no = "78".to_owned();
        letter.demands[0].open = letter.demands[0].rows.iter().map(|row| row.open).sum();
        letter.demands[0].to_pay = letter.demands[0].open;
        assert_eq!(reference_of(set, &letter), several);
        letter.demands[0].rows[1].payment_reference = Some("RF18 5390".to_owned());
        assert_eq!(reference_of(set, &letter), "77, RF18 5390");
        letter.demands[0].rows[1].payment_reference = Some("9".repeat(140));
        assert!(reference_of(set, &letter).ends_with(&letter.account_id));
    }
}

// What a letter refuses

#[test]
fn a_letter_that_does_not_add_up_is_not_written() {
    let set = set();
    let good = sample(set, "part_paid", "firm", Language::En);
    let mut wrong_total = good.clone();
    wrong_total.demands[0].to_pay += Decimal::ONE;
    let mut wrong_row = good.clone();
    wrong_row.demands[0].rows[0].to_pay += Decimal::ONE;
    let mut wrong_credit = good.clone();
    wrong_credit.demands[0].rows[0].credits.pop();
    let mut nothing = good.clone();
    nothing.demands.clear();
    let errors: Vec<String> = [wrong_total, wrong_row, wrong_credit, nothing]
        .iter()
        .map(|letter| set.render(letter).expect_err("it does not add up").to_string())
        .collect();
    insta::assert_snapshot!("refused", errors.join("\n"));

    let mut stranger = good;
    stranger.template = "poem".to_owned();
    assert!(matches!(set.render(&stranger), Err(RenderError::NoTemplate { .. })));
}

// What debtors cannot do

/// Every tag with its attributes, without what is written between them.
fn skeleton(html: &str) -> Vec<String> {
    let body = html.split_once("<body").map_or("", |(_, body)| body);
    body.split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default().to_owned()).collect()
}

fn named(set: &TemplateSet, situation: &str, template: &str, language: Language, name: &str) -> Letter {
    let mut letter = sample(set, situation, template, language);
    let name = format!("x{name}y");
    letter.account_name.clone_from(&name);
    letter.account_id.clone_from(&name);
    letter.account_address = Some(name.clone());
    letter.salutation = Some(name.clone());
    letter.contact_person = Some(name.clone());
    for demand in &mut letter.demands {
        demand.payee.holder.clone_from(&name);
        demand.payee.bank = Some(name.clone());
        for row in &mut demand.rows {
            row.document_no.clone_from(&name);
            row.payment_reference = Some(name.clone());
            row.customer_reference = Some(name.clone());
            row.contract_no = Some(name.clone());
            row.pay_url = Some(format!("javascript:{name}"));
            for credit in &mut row.credits {
                credit.document_no.clone_from(&name);
            }
        }
    }
    letter
}

fn check_inert(set: &TemplateSet, template: &str, language: Language, name: &str) {
    // With one item its number is in the subject, with several it is not.
    for situation in ["one_item", "part_paid"] {
        let plain = render(set, &named(set, situation, template, language, " plain "));
        let hostile = render(set, &named(set, situation, template, language, name));
        check_same_shape(&plain, &hostile, name);
    }
}

fn check_same_shape(plain: &Rendered, hostile: &Rendered, name: &str) {
    let without_title = |html: &str| -> Vec<String> {
        skeleton(html)
            .into_iter()
            .map(|tag| tag.split(" aria-label=\"").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(without_title(&hostile.html), without_title(&plain.html), "{name:?}");
    for text in [&hostile.subject, &hostile.text, &hostile.html] {
        assert!(!text.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{e000}'..='\u{f8ff}' | '\r' | '\0')), "{name:?}");
    }
    assert!(!hostile.subject.contains('\n'), "{name:?}");
    let quotes = |html: &str| html.matches('"').count();
    assert_eq!(quotes(&hostile.html), quotes(&plain.html), "{name:?}");
}

#[test]
fn hostile_names_arrive_as_text() {
    let set = set();
    let names = [
        "<script>alert(1)</script>",
        "[x](http://evil.test)",
        "<http://evil.test>",
        "{{ 7*7 }}{% include \"a\" %}",
        "**bold** _it_ `code` ~~x~~",
        "\r\nBcc: all@evil.test\r\n\r\n# heading",
        "\n\n- list\n\n1. list\n\n> quote\n\n---\n\n```\ncode",
        "\u{202e}evil\u{202c}\u{2066}\u{200b}\u{feff}\u{0}\u{1b}[31m",
        "\u{e000}\u{e001}demands\u{e002}",
        "&lt;b&gt; &amp; &#60;",
        "![i](http://evil.test/x.png) | a | b |\\",
        "\" onmouseover=\"alert(1)' style='",
    ];
    for name in names {
        for language in Language::ALL {
            for (template, _) in TEMPLATES {
                check_inert(set, template, language, name);
            }
        }
    }
    let italian = render(set, &sample(set, "hostile", "firm", Language::It));
    assert!(
        flat(&italian.text)
            .contains("Spett.le # <script>alert(1)</script> **Bold** [x](http://evil.test) {{ 7*7 }} Bcc:")
    );
    assert!(italian.text.contains("1. <b>x</b> {% include \"x\" %}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_name_changes_the_shape_of_a_letter(name in "[\\PC\\n\\r\\t<>\\[\\]()*_`#~!|{}%\\\\&;:/ ]{0,40}") {
        check_inert(set(), "firm", Language::It, &name);
    }
}

// Loading

/// From the text of a file to its wrong text.
type Change<'a> = &'a dyn Fn(&str) -> String;
type OwnedChange = Box<dyn Fn(&str) -> String>;

/// The shipped templates in a directory of their own, with changes.
fn copy_with(changes: &[(&str, Change<'_>)]) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&root("templates"), dir.path());
    for (file, change) in changes {
        let path = dir.path().join(file);
        fs::write(&path, change(&fs::read_to_string(&path).unwrap_or_default())).unwrap();
    }
    dir
}

fn findings(file: &str, change: Change<'_>) -> String {
    let dir = copy_with(&[(file, change)]);
    let findings = TemplateSet::load(dir.path()).err().unwrap_or_else(|| panic!("nothing is found in {file}"));
    shown(&findings)
}

#[test]
fn a_directory_loads_like_the_shipped_set() {
    let dir = copy_with(&[("friendly/en.md", &|text| format!("\u{feff}{}", text.replace('\n', "\r\n")))]);
    let loaded = TemplateSet::load(dir.path()).unwrap_or_else(|findings| panic!("{}", shown(&findings)));
    assert_eq!(loaded.sha256(), set().sha256());
    assert_eq!(loaded.sources(), set().sources());
    let changed = copy_with(&[("friendly/en.md", &|text| format!("{text}\nRegards\n"))]);
    assert_ne!(TemplateSet::load(changed.path()).unwrap().sha256(), loaded.sha256());
    let missing = loaded.missing([("friendly", Language::En), ("thanks", Language::Pl)]);
    assert_eq!(
        shown(&missing),
        "thanks/pl.md: a stage of the policy needs this letter, and there is none\n  hint: write it, or change the stage's \
         `template` or the `languages` of policy.toml"
    );
}

#[test]
fn every_file_of_the_directory_is_shipped() {
    fn walk(dir: &Path, prefix: &str, files: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), files);
            } else {
                files.insert(name);
            }
        }
    }
    let mut files = BTreeSet::new();
    walk(&root("templates"), "", &mut files);
    let sources = set().sources();
    for file in &files {
        assert!(sources.contains(&format!("{file}\n")), "{file} is not in the list of shipped files");
    }
}

#[test]
fn filters_write_as_the_language_does() {
    let written = [
        ("en", "IT60 X054 2811 1010 0000 0123 456; 12-34-56; 21 days; 1 day; 1,234,567.50; 12/10/2026; many; Abc"),
        ("it", "IT60 X054 2811 1010 0000 0123 456; 12-34-56; 21 giorni; 1 giorno; 1.234.567,50; 12/10/26; many; Abc"),
        ("pl", "IT60 X054 2811 1010 0000 0123 456; 12-34-56; 21 dni; 1 dzień; 1 234 567,50; 12.10.2026; many; Abc"),
        ("ru", "IT60 X054 2811 1010 0000 0123 456; 12-34-56; 21 день; 1 день; 1 234 567,50; 12.10.2026; many; Abc"),
    ];
    let line = "{{ \"IT60X0542811101000000123456\" | iban }}; {{ \"12-34-56\" | iban }}; {{ 21 | days }}; {{ 1 | days }}; \
                {{ \"1234567.50\" | number }}; {{ date | date(style=\"short\") }}; \
                {{ \"1.0\" | plural(one=\"one\", few=\"few\", other=\"many\") }}; {{ \"abc\" | upper_first }}";
    for (language, expected) in written {
        let file = format!("firm/{language}.md");
        let dir = copy_with(&[(&file, &|text| text.replace("{{ demands }}", &format!("{line}\n\n{{{{ demands }}}}")))]);
        let set = TemplateSet::load(dir.path()).unwrap_or_else(|findings| panic!("{}", shown(&findings)));
        let letter = sample(&set, "one_item", "firm", Language::parse(language).unwrap());
        let text = flat(&render(&set, &letter).text);
        assert!(text.contains(expected), "{language}: {text}");
    }
}

/// A letter with another line in place of its subject.
fn with_subject(text: &str, subject: &str) -> String {
    let (before, rest) = text.split_once("subject:").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    format!("{before}{subject}{after}")
}

#[test]
fn mistakes_are_found_at_load() {
    let body =
        |wrong: &'static str| move |text: &str| text.replace("{{ demands }}", &format!("{{{{ demands }}}}\n\n{wrong}"));
    let cases: Vec<(&str, &str, OwnedChange)> = vec![
        ("unknown variable", "firm/en.md", Box::new(body("{{ amuont | money }}"))),
        ("unknown variable in a condition", "firm/pl.md", Box::new(body("{% if respond_buy %}x{% endif %}"))),
        ("unknown field", "firm/it.md", Box::new(body("{{ creditor.fone }}"))),
        ("unknown field behind a default", "firm/it.md", Box::new(body("{{ account.nome or \"x\" }}"))),
        (
            "unknown field in a loop",
            "firm/ru.md",
            Box::new(body("{% for item in items %}{{ item.titel }}{% endfor %}")),
        ),
        ("unknown filter", "firm/en.md", Box::new(body("{{ totals | mony }}"))),
        ("forbidden filter", "firm/en.md", Box::new(body("{{ account.name | safe }}"))),
        ("unknown statement", "firm/en.md", Box::new(body("{% extends \"x\" %}"))),
        ("unknown function", "firm/en.md", Box::new(body("{{ now() }}"))),
        ("date without filter", "firm/en.md", Box::new(body("{{ date }}"))),
        ("amount without filter", "firm/en.md", Box::new(body("{{ oldest.to_pay }}"))),
        ("syntax", "firm/en.md", Box::new(body("{% if document %}never ends"))),
        (
            "tag without its end",
            "firm/it.md",
            Box::new(|text| text.replacen("{{ totals | money }}", "{{ totals | money", 1)),
        ),
        ("end of nothing", "firm/en.md", Box::new(body("{% endif %}"))),
        (
            "end of another",
            "firm/en.md",
            Box::new(body("{% for item in items %}{% if part_paid %}x{% endfor %}{% endif %}")),
        ),
        ("unknown include", "firm/en.md", Box::new(body("{% include \"partials/en/nothing.md\" %}"))),
        ("maybe missing", "firm/en.md", Box::new(body("{{ respond_by | date }}"))),
        ("maybe missing text", "firm/en.md", Box::new(body("Call {{ creditor.phone }}"))),
        (
            "maybe missing in the other branch",
            "firm/en.md",
            Box::new(body("{% if document %}x{% else %}{{ document.no }}{% endif %}")),
        ),
        ("whole list by another name", "firm/en.md", Box::new(body("{% set t = totals %}{{ t }}"))),
        ("part of an amount", "firm/en.md", Box::new(body("{% set t = oldest.to_pay %}{{ t.amount }}"))),
        (
            "part of an amount in subject",
            "firm/en.md",
            Box::new(|text| text.replace("subject: ", "subject: {% set t = oldest.to_pay %}pay {{ t.amount }} ")),
        ),
        ("part by its index", "firm/en.md", Box::new(body("{{ oldest[\"to_pay\"][\"amount\"] }} {{ totals.0 }}"))),
        ("list of parts", "firm/en.md", Box::new(body("{% for name, value in oldest %}{{ value }}{% endfor %}"))),
        (
            "maybe missing in a loop",
            "firm/en.md",
            Box::new(body("{% for i in items %}{{ i.instalment_no }}{% endfor %}")),
        ),
        ("maybe missing by another name", "firm/en.md", Box::new(body("{% set p = creditor.phone %}Call {{ p }}"))),
        ("wrong style", "firm/en.md", Box::new(body("{{ date | date(style=\"tiny\") }}"))),
        ("raw html", "firm/en.md", Box::new(body("<b>now</b>"))),
        ("image", "firm/en.md", Box::new(body("![x](https://example.test/x.png)"))),
        (
            "block inside a sentence",
            "firm/en.md",
            Box::new(|text| text.replace("{{ sender }}", "").replace("{{ also_open }}", "See {{ also_open }}")),
        ),
        ("block missing", "firm/en.md", Box::new(|text| text.replace("{{ also_open }}", ""))),
        (
            "amount in subject",
            "firm/en.md",
            Box::new(|text| text.replace("subject: ", "subject: {{ totals | money }} ")),
        ),
        ("missing subject", "firm/en.md", Box::new(|text| with_subject(text, ""))),
        ("empty subject", "firm/en.md", Box::new(|text| with_subject(text, "subject:\n"))),
        (
            "subject empty for some",
            "firm/en.md",
            Box::new(|text| with_subject(text, "subject: {% if document %}{{ document.no }}{% endif %}\n")),
        ),
        ("unknown key", "firm/en.md", Box::new(|text| text.replace("preheader:", "preheadr:"))),
        ("no front matter", "firm/en.md", Box::new(|text| text.replacen("---\n", "", 1))),
        (
            "empty body",
            "firm/en.md",
            Box::new(|text| {
                format!(
                    "{}\n---\n",
                    text.splitn(3, "---")
                        .take(2)
                        .collect::<String>()
                        .trim_start()
                        .replacen("subject", "---\nsubject", 1)
                        .trim_end()
                )
            }),
        ),
        ("unknown language", "firm/de.md", Box::new(|_| "---\nsubject: x\npreheader: x\n---\nx\n".to_owned())),
        ("unknown mjml tag", "layout.mjml", Box::new(|text| text.replace("mj-column", "mj-colunm"))),
        (
            "unknown mjml attribute",
            "layout.mjml",
            Box::new(|text| text.replace("background-color=\"#ffffff\"", "background-colour=\"#ffffff\"")),
        ),
        ("broken mjml", "layout.mjml", Box::new(|text| text.replace("</mj-body>", ""))),
        ("layout without body", "layout.mjml", Box::new(|text| text.replace("{{ body }}", ""))),
        ("layout variable", "layout.mjml", Box::new(|text| text.replace("{{ preheader }}", "{{ prehaeder }}"))),
        (
            "layout tag lost",
            "layout.mjml",
            Box::new(|text| text.replacen("<mj-column>", "<mj-column width=\"{{ creditor_name }}\">", 1)),
        ),
        (
            "label missing",
            "labels/en.toml",
            Box::new(|text| {
                text.replace("customer = \"Customer\"\n", "")
                    .replace("to_pay = \"To pay\"\n", "")
                    .replace("fee = ", "# ")
            }),
        ),
        (
            "section missing",
            "labels/pl.toml",
            Box::new(|text| text.split_once("[csv]").map_or_else(String::new, |(before, _)| before.to_owned())),
        ),
        (
            "circular include",
            "partials/en/closing.md",
            Box::new(|text| text.replace("{{ sender }}", "{% include \"partials/en/closing.md\" %}")),
        ),
        (
            "raw html in a partial",
            "partials/en/salutation.md",
            Box::new(|text| text.replace("Dear Sir", "<b>Dear</b> Sir")),
        ),
        ("label key", "labels/en.toml", Box::new(|text| text.replace("due_date", "due_day"))),
        ("label place", "labels/en.toml", Box::new(|text| text.replace("{count}. The complete", "all. The complete"))),
        ("label blank", "labels/en.toml", Box::new(|text| text.replace("\"Item\"", "\" \""))),
        ("label of two lines", "labels/en.toml", Box::new(|text| text.replace("\"Due date\"", "\"Due\\ndate\""))),
        (
            "label with an unknown place",
            "labels/en.toml",
            Box::new(|text| {
                text.replace("invoice {no}", "invoice {no} of {dat}").replace("\"Bank\"", "\"Bank {name\"")
            }),
        ),
        ("fixture key", "fixtures/bare.toml", Box::new(|text| text.replace("amount =", "amonut ="))),
    ];
    for (name, file, change) in cases {
        insta::assert_snapshot!(format!("finding {name}").replace(' ', "_"), findings(file, &*change));
    }
}

#[test]
fn what_is_asked_for_may_be_printed_by_whatever_name() {
    for right in [
        "{% set p = creditor.phone %}{% if p %}Call {{ p }}{% endif %}",
        "{% if creditor.phone %}{% set p = creditor.phone %}Call {{ p }}{% endif %}",
        "{% set p = creditor.phone %}{% if creditor.phone %}Call {{ p }}{% endif %}",
        "{% for i in items %}{% if i.instalment_no %}{{ i.instalment_no | number }}{% endif %}{% endfor %}",
        "{% set t = oldest %}{{ t.title }}: {{ t.to_pay | money }}",
        "{% for t in totals %}{{ t | money }}{% endfor %}",
        "{% for w in [\"a\", \"b\"] %}{{ w }}{% endfor %}",
    ] {
        let dir = copy_with(&[("firm/en.md", &|text| {
            text.replace("{{ demands }}", &format!("{right}\n\n{{{{ demands }}}}"))
        })]);
        TemplateSet::load(dir.path()).unwrap_or_else(|findings| panic!("{right}: {}", shown(&findings)));
    }
}

#[test]
fn what_a_reader_cannot_see_is_found_at_load() {
    for (unseen, name) in [("\0", "U+0000"), ("\u{1b}", "U+001B"), ("\u{202e}", "U+202E")] {
        let found = findings("friendly/it.md", &|text| format!("{text}\nab{unseen}c\n"));
        assert!(found.contains(&format!("a character that nobody sees, {name}: remove it")), "{found}");
        assert!(found.contains(":3: ") && !found.contains(unseen), "{found:?}");
    }
    let escaped = findings("labels/it.toml", &|text| text.replace("demands = \"", "demands = \"\\u001b"));
    assert!(escaped.contains("`demands` holds a character that nobody sees: remove it"), "{escaped}");
}

#[test]
fn all_findings_come_at_once() {
    let dir = copy_with(&[
        ("firm/en.md", &|text| text.replace("{{ sender }}", "").replace("{{ demands }}", "{{ demnds }}")),
        ("final/ru.md", &|text| text.replace("| money", "| monney")),
        ("layout.mjml", &|text| text.replace("mj-text", "mj-txt")),
    ]);
    let findings = TemplateSet::load(dir.path()).err().unwrap();
    let files: BTreeSet<&str> = findings.iter().map(|f| f.file.as_str()).collect();
    assert_eq!(files, BTreeSet::from(["firm/en.md", "final/ru.md", "layout.mjml"]));
    let nowhere = TemplateSet::load(&root("templates/nowhere")).err().unwrap();
    assert_eq!(nowhere[0].message, "there is no folder nowhere/ beside dunningd.toml");
}

#[test]
fn the_reference_is_the_contract() {
    let path = root("docs/templates.md");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|how| how == "always") {
        fs::create_dir_all(root("docs")).unwrap();
        fs::write(&path, reference()).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/templates.md is stale: run `INSTA_UPDATE=always cargo test --test it render`"
    );
}
