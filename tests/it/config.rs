use dunningd::config::*;
use std::path::Path;
#[test]
fn x() {
    match load_from(&Source::shipped(), Path::new("config"), [], None) {
        Ok(l) => println!("{:#?}", l),
        Err(e) => panic!("{e}"),
    }
}
