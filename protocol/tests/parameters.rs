//! What a script is given, held against what it declares: at the bounds, and for secrets too.

use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{
    AcceptedParameters, MAX_NAME_BYTES, MAX_VALUE_BYTES, ParameterDeclaration, ParameterError,
    Parameters, check, check_name, resolve,
};

fn given(name: &str, value: &str) -> Parameters {
    Parameters::from([(name.to_owned(), value.to_owned())])
}

fn secret(name: &str, value: &str) -> SecretParameters {
    given(name, value).into()
}

fn colour() -> ParameterDeclaration {
    ParameterDeclaration {
        name: "COLOUR".into(),
        required: false,
        default: Some("blue".into()),
        choices: vec!["blue".into(), "red".into()],
        secret: false,
        description: None,
    }
}

#[test]
fn a_value_is_one_of_the_choices_in_the_open_and_as_a_secret() {
    let declared = AcceptedParameters::Declared(vec![colour()]);
    let refusal = ParameterError::NotAChoice { name: "COLOUR".into(), choices: "blue, red".into() };
    let none = SecretParameters::default();
    let open = resolve(given("COLOUR", "green"), none, &declared);
    assert_eq!(open.expect_err("no choice"), refusal);
    let hidden = resolve(Parameters::new(), secret("COLOUR", "green"), &declared);
    assert_eq!(hidden.expect_err("no choice"), refusal);
}

#[test]
fn a_default_gives_way_to_what_is_given_in_the_open_and_as_a_secret() {
    let declared = AcceptedParameters::Declared(vec![colour()]);
    let none = SecretParameters::default();
    let (open, _) = resolve(given("COLOUR", "red"), none, &declared).expect("a choice");
    assert_eq!(open, given("COLOUR", "red"));
    let (open, secrets) =
        resolve(Parameters::new(), secret("COLOUR", "red"), &declared).expect("a choice");
    assert_eq!((open, secrets.get("COLOUR")), (Parameters::new(), Some("red")));
}

#[test]
fn names_and_values_of_secrets_are_checked_as_those_in_the_open() {
    for (name, value) in [("LD_PRELOAD", "x"), ("a=b", "x"), ("A", "x\0y")] {
        let open = check(&given(name, value), &SecretParameters::default());
        assert!(open.is_err(), "{name}");
        assert_eq!(check(&Parameters::new(), &secret(name, value)), open, "{name}");
    }
}

#[test]
fn names_and_values_fit_to_the_byte() {
    for (bytes, fits) in [(MAX_VALUE_BYTES, true), (MAX_VALUE_BYTES + 1, false)] {
        let value = "x".repeat(bytes);
        assert_eq!(check(&given("A", &value), &SecretParameters::default()).is_ok(), fits);
        assert_eq!(check(&Parameters::new(), &secret("A", &value)).is_ok(), fits);
    }
    for (bytes, fits) in [(MAX_NAME_BYTES, true), (MAX_NAME_BYTES + 1, false)] {
        assert_eq!(check_name(&"A".repeat(bytes)).is_ok(), fits, "{bytes}");
    }
}
