//! The Helm chart, rendered and looked at as Kubernetes would: each object has what its kind requires,
//! and what one names in another is there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use gtmpl::{Context, FuncError, Template, Value};
use yaml_rust2::{Yaml, YamlLoader};

const RELEASE: &str = "db";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/helm/ringway")
}

fn yaml(text: &str) -> Yaml {
    let mut documents =
        YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    documents.pop().unwrap_or(Yaml::Null)
}

/// The objects of the chart by their kind, with `changes` to values at dotted paths.
fn rendered(changes: &[(&str, Yaml)]) -> BTreeMap<String, Yaml> {
    let mut values = yaml(&std::fs::read_to_string(chart().join("values.yaml")).unwrap());
    for (path, value) in changes {
        let mut at = &mut values;
        for key in path.split('.') {
            let Yaml::Hash(hash) = at else {
                panic!("{path}")
            };
            let key = Yaml::String(key.to_owned());
            at = hash
                .get_mut(&key)
                .unwrap_or_else(|| panic!("{path} is no value of the chart"));
        }
        *at = value.clone();
    }
    let release = HashMap::from([("Name".to_owned(), Value::from(RELEASE))]);
    let root = HashMap::from([
        ("Values".to_owned(), of_yaml(&values)),
        ("Release".to_owned(), Value::Object(release)),
    ]);
    let mut objects = BTreeMap::new();
    for entry in std::fs::read_dir(chart().join("templates")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut template = Template::default();
        template.add_func("quote", quote);
        template.add_func("toJson", to_json);
        template
            .parse(text.as_str())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let out = template.render(&Context::from(Value::Object(root.clone())));
        let out = out.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let object = yaml(&out);
        if let Some(kind) = object["kind"].as_str() {
            objects.insert(kind.to_owned(), object.clone());
        }
    }
    objects
}

fn of_yaml(value: &Yaml) -> Value {
    match value {
        Yaml::Hash(hash) => {
            let pair =
                |(key, value): (&Yaml, &Yaml)| (key.as_str().unwrap().to_owned(), of_yaml(value));
            Value::Object(hash.iter().map(pair).collect())
        }
        Yaml::Array(items) => Value::Array(items.iter().map(of_yaml).collect()),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(is) => Value::from(*is),
        Yaml::Null => Value::Nil,
        other => panic!("{other:?}"),
    }
}

/// As sprig's.
fn quote(args: &[Value]) -> Result<Value, FuncError> {
    let text = args.first().map(ToString::to_string).unwrap_or_default();
    Ok(Value::from(serde_json::Value::String(text).to_string()))
}

fn to_json(args: &[Value]) -> Result<Value, FuncError> {
    fn of(value: &Value) -> serde_json::Value {
        match value {
            Value::Object(map) | Value::Map(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), of(value)))
                .collect(),
            Value::Array(items) => items.iter().map(of).collect(),
            Value::Bool(is) => (*is).into(),
            Value::Number(number) => serde_json::from_str(&number.to_string()).unwrap(),
            Value::String(text) => text.clone().into(),
            Value::Nil | Value::NoValue | Value::Function(_) => serde_json::Value::Null,
        }
    }
    Ok(Value::from(of(&args[0]).to_string()))
}

/// The API version of each kind, and the paths that it requires.
const KINDS: [(&str, &str, &[&str]); 7] = [
    ("ConfigMap", "v1", &["data"]),
    ("Secret", "v1", &["stringData"]),
    ("Service", "v1", &["spec.selector", "spec.ports"]),
    (
        "Deployment",
        "apps/v1",
        &[
            "spec.selector.matchLabels",
            "spec.template.metadata.labels",
            "spec.template.spec.containers",
        ],
    ),
    (
        "PodDisruptionBudget",
        "policy/v1",
        &["spec.selector.matchLabels", "spec.maxUnavailable"],
    ),
    (
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        &[
            "spec.scaleTargetRef.name",
            "spec.maxReplicas",
            "spec.metrics",
        ],
    ),
    (
        "ServiceMonitor",
        "monitoring.coreos.com/v1",
        &["spec.selector.matchLabels", "spec.endpoints"],
    ),
];

fn at<'y>(object: &'y Yaml, path: &str) -> &'y Yaml {
    path.split('.').fold(object, |object, key| &object[key])
}

fn everything() -> BTreeMap<String, Yaml> {
    rendered(&[
        ("autoscaling.enabled", Yaml::Boolean(true)),
        ("serviceMonitor.enabled", Yaml::Boolean(true)),
    ])
}

#[test]
fn each_object_has_what_its_kind_requires() {
    let objects = everything();
    assert_eq!(objects.len(), KINDS.len());
    for (kind, version, required) in KINDS {
        let object = &objects[kind];
        assert_eq!(object["apiVersion"].as_str(), Some(version), "{kind}");
        assert_eq!(
            at(object, "metadata.name").as_str(),
            Some("db-ringway"),
            "{kind}"
        );
        for path in required {
            assert!(
                !at(object, path).is_badvalue() && !at(object, path).is_null(),
                "{kind}: {path}"
            );
        }
    }
    let chart = yaml(&std::fs::read_to_string(chart().join("Chart.yaml")).unwrap());
    assert_eq!(chart["apiVersion"].as_str(), Some("v2"));
    assert_eq!(
        chart["appVersion"].as_str(),
        Some(env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn what_one_names_is_in_the_other() {
    let objects = everything();
    let deployment = &objects["Deployment"];
    let labels = at(deployment, "spec.template.metadata.labels");
    for (kind, path) in [
        ("Deployment", "spec.selector.matchLabels"),
        ("Service", "spec.selector"),
        ("PodDisruptionBudget", "spec.selector.matchLabels"),
        ("ServiceMonitor", "spec.selector.matchLabels"),
    ] {
        assert_eq!(at(&objects[kind], path), labels, "{kind}");
    }
    assert_eq!(at(&objects["Service"], "metadata.labels"), labels);
    let pod = at(deployment, "spec.template.spec");
    let container = &pod["containers"][0];
    let names = |list: &Yaml| -> Vec<String> {
        let names = list
            .as_vec()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    let ports = names(&container["ports"]);
    for probe in ["livenessProbe", "readinessProbe"] {
        let port = at(&container[probe], "httpGet.port").as_str().unwrap();
        assert!(ports.contains(&port.to_owned()), "{probe}");
    }
    for port in at(&objects["Service"], "spec.ports").as_vec().unwrap() {
        assert!(ports.contains(&port["targetPort"].as_str().unwrap().to_owned()));
    }
    assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
    assert_eq!(
        pod["volumes"][0]["configMap"]["name"],
        objects["ConfigMap"]["metadata"]["name"]
    );
    assert_eq!(
        pod["volumes"][1]["secret"]["secretName"],
        objects["Secret"]["metadata"]["name"]
    );
    let own = rendered(&[("existingSecret", Yaml::String("mine".into()))]);
    assert!(!own.contains_key("Secret"));
    let secret = at(&own["Deployment"], "spec.template.spec.volumes");
    assert_eq!(secret[1]["secret"]["secretName"].as_str(), Some("mine"));
    // Replicas are the autoscaler's, if there is one.
    assert!(at(deployment, "spec.replicas").is_badvalue());
    assert_eq!(at(&own["Deployment"], "spec.replicas").as_i64(), Some(2));
}

#[test]
fn the_configuration_is_valid_and_arrives_whole() {
    let objects = rendered(&[]);
    let config = at(&objects["ConfigMap"], "data")["ringway.toml"]
        .as_str()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let secrets = at(&objects["Secret"], "stringData");
    std::fs::write(
        directory.path().join("app"),
        secrets["app"].as_str().unwrap(),
    )
    .unwrap();
    let there = format!("{}/", directory.path().display());
    let text = config.replace("/etc/ringway/secrets/", &there);
    let path = directory.path().join("ringway.toml");
    let parsed = ringway::config::parse(&text, &path, &|_| None).unwrap();
    let ports = at(&objects["Deployment"], "spec.template.spec")["containers"][0]["ports"].clone();
    assert_eq!(
        ports[1]["containerPort"].as_i64(),
        parsed.general.http_listen.map(|a| i64::from(a.port()))
    );
    let grace = at(
        &objects["Deployment"],
        "spec.template.spec.terminationGracePeriodSeconds",
    );
    assert!(grace.as_i64().unwrap() > parsed.general.shutdown_timeout.as_secs() as i64);
    let odd = "a: \"b\"\n\\ {{ x }} # '";
    let objects = rendered(&[("config", Yaml::String(odd.into()))]);
    assert_eq!(
        at(&objects["ConfigMap"], "data")["ringway.toml"].as_str(),
        Some(odd)
    );
}
