//! Rules as PostgreSQL's documentation has them, and every kind of mistake.

use super::read::read;
use super::*;

fn table(text: &str) -> Hba {
    let (hba, flaws) = read(text);
    assert_eq!(flaws, []);
    hba
}

const VISITOR: Visitor<'static> = Visitor {
    database: "shop",
    user: "app",
    address: Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3))),
    is_tls: false,
    is_replication: false,
};

/// The line of the rule that decides.
fn decides(hba: &Hba, visitor: Visitor<'_>) -> Option<usize> {
    hba.find(&visitor).map(|rule| rule.line)
}

#[test]
fn the_first_rule_that_fits_decides() {
    let hba = table(
        "local all all trust\n\
         hostssl all all 10.0.0.0/8 scram-sha-256\n\
         hostnossl all all 10.1.2.3/32 md5\n\
         host all all 10.1.0.0 255.255.0.0 reject\n\
         host all all ::1/128 trust\n\
         host all all 0.0.0.0/0 trust\n",
    );
    let at = |address: &str| Some(address.parse().unwrap());
    for (address, is_tls, line) in [
        (None, false, Some(1)),
        (at("10.9.9.9"), true, Some(2)),
        (at("10.1.2.3"), false, Some(3)),
        (at("::ffff:10.1.2.3"), false, Some(3)),
        (at("10.1.2.4"), false, Some(4)),
        (at("::1"), true, Some(5)),
        (at("::2"), true, None),
        (at("11.0.0.1"), true, Some(6)),
    ] {
        let visitor = Visitor {
            address,
            is_tls,
            ..VISITOR
        };
        assert_eq!(decides(&hba, visitor), line, "{address:?} {is_tls}");
    }
}

#[test]
fn names_have_postgresqls_meaning() {
    for (database, user, fits) in [
        ("all", "all", true),
        ("shop", "app", true),
        ("shop,other", "ann,app", true),
        ("other", "app", false),
        ("shop", "ann", false),
        ("sameuser", "app", false),
        ("\"all\"", "all", false),
        ("all", "\"all\"", false),
        ("/^sh", "/^a.p$", true),
        ("/ho", "all", true),
        ("/^ho", "all", false),
        ("Shop", "app", false),
        ("replication", "all", false),
    ] {
        let hba = table(&format!("host {database} {user} all trust\n"));
        assert_eq!(decides(&hba, VISITOR).is_some(), fits, "{database} {user}");
    }
    let same = Visitor {
        database: "app",
        ..VISITOR
    };
    assert!(decides(&table("host sameuser all all trust"), same).is_some());
    let replication = Visitor {
        is_replication: true,
        ..VISITOR
    };
    assert!(decides(&table("host all all all trust"), replication).is_none());
    assert!(decides(&table("host replication all all trust"), replication).is_some());
    // Quoted, it is a database of that name.
    assert!(decides(&table("host \"replication\" all all trust"), replication).is_none());
}

#[test]
fn methods_and_options_are_kept() {
    let hba = table(
        "hostssl all all all cert map=staff clientname=DN\n\
         hostssl all all all scram-sha-256 clientcert=verify-ca\n\
         local all all peer map=\"my map\"\n",
    );
    let of = |at: usize| {
        let rule = &hba.rules[at];
        (
            rule.method,
            rule.map.as_deref(),
            rule.client_cert,
            rule.cert_name,
        )
    };
    assert_eq!(
        of(0),
        (
            Method::Cert,
            Some("staff"),
            ClientCert::VerifyFull,
            CertName::Dn
        )
    );
    assert_eq!(
        of(1),
        (Method::Scram, None, ClientCert::VerifyCa, CertName::Cn)
    );
    assert_eq!(of(2).1, Some("my map"));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let cases = [
        (
            "hots all all all trust",
            "\"hots\" is no type of connection",
        ),
        ("hostgssenc all all all trust", "GSSAPI encryption"),
        ("host all", "the line ends before the user"),
        ("host all all all", "the line ends before the method"),
        (
            "host all all 10.0.0.1 trust",
            "the line ends before the method",
        ),
        ("host all all 10.0.0.1 trust x", "not its mask"),
        ("host all all 10.0.0.0/33 trust", "has a length"),
        ("host all all example.com trust", "host names"),
        ("host all all samenet trust", "is not supported"),
        ("host all all all,all trust", "more than one address"),
        ("host samerole all all trust", "members of a role"),
        (
            "host all +staff all trust",
            "members of a role (\"+staff\")",
        ),
        ("host @dbs all all trust", "names from a file"),
        ("host /( all all trust", "no regular expression"),
        (
            "host all all all ldap",
            "the method \"ldap\" is not supported",
        ),
        ("host all all all scram", "\"scram\" is no method"),
        ("host all all all password", "sent in the clear"),
        ("local all all password", "sent in the clear"),
        ("host all all all cert", "only possible with hostssl"),
        ("host all all all peer", "only possible with local"),
        ("host all all all md5 map=x", "map is only used"),
        ("host all all all md5 clientcert=verify-ca", "hostssl"),
        ("hostssl all all all md5 clientcert=1", "cannot be \"1\""),
        (
            "hostssl all all all cert clientcert=verify-ca",
            "only accepts",
        ),
        ("hostssl all all all cert clientname=XX", "cannot be \"XX\""),
        ("host all all all md5 x=y", "the option \"x\" is not known"),
        ("host all all all md5 x", "no option"),
        ("host \"all all all md5", "a quote is not closed"),
        ("include other.conf", "\"include\" is not supported"),
        ("include_dir x", "\"include_dir\" is not supported"),
    ];
    let text: Vec<_> = cases.iter().map(|(line, _)| *line).collect();
    let (hba, flaws) = read(&text.join("\n"));
    assert_eq!(hba.rules.len(), 0);
    for (number, (line, what)) in (1..).zip(&cases) {
        let flaw = flaws.iter().find(|flaw| flaw.line == number);
        let flaw = flaw.unwrap_or_else(|| panic!("nothing wrong with {line}"));
        assert!(flaw.what.contains(what), "{line}: {}", flaw.what);
    }
    // More than one mistake in a line.
    let (_, flaws) = read("hots +a +b nowhere.net nothing");
    assert_eq!(flaws.len(), 4, "{flaws:#?}");
}
