//! The word that was probably meant.

/// The candidate closest to `word`, when it is close enough to be a slip of the pen. Case never counts.
pub(super) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(&word, &candidate.to_lowercase())?, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters apart (Damerau-Levenshtein); none when more than a third of the longer word differs. A word that is the
/// beginning of the other, or the city of a time zone, counts as close.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    let apart = strsim::damerau_levenshtein(word, candidate);
    let longer = word.chars().count().max(candidate.chars().count());
    let cut_short = word.len() >= 4 && (candidate.starts_with(word) || candidate.ends_with(&format!("/{word}")));
    (apart <= (longer / 3).max(1) || cut_short).then_some(apart)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_slip_of_the_pen_finds_its_word_and_a_stranger_finds_none() {
        assert_eq!(closest("hots", ["host", "port"]), Some("host"));
        assert_eq!(closest("eur", ["EUR", "PLN"]), Some("EUR"));
        assert_eq!(closest("Rome", ["Europe/Paris", "Europe/Rome"]), Some("Europe/Rome"));
        assert_eq!(closest("minimun", ["minimum", "rates"]), Some("minimum"));
        assert_eq!(closest("elephant", ["host", "port"]), None);
    }
}
