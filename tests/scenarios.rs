//! Conversations between clients, the resolver and name servers.

mod scenario;

#[test]
fn tmp_all_parse() {
    for dir in std::env::var("QALQAN_SCENARIOS").unwrap_or_default().split(':').filter(|s| !s.is_empty()) {
        for f in std::fs::read_dir(dir).unwrap() {
            let p = f.unwrap().path();
            if p.extension().is_some_and(|e| e == "rpl") {
                match scenario::script::load(&p) {
                    Ok(s) => { if s.path.to_string_lossy().contains("deckard") != (s.dialect == scenario::script::Dialect::Deckard) { println!("DIALECT {p:?}"); } }
                    Err(e) => println!("{e}"),
                }
            }
        }
    }
}
