import pytest

from ristune.errors import InputError
from ristune.storage.location import Location, parse_location, redact


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("s3://bucket", Location("s3", "bucket")),
        ("s3://bucket/", Location("s3", "bucket")),
        ("s3://b.u-c_1/a/b c/", Location("s3", "b.u-c_1", "a/b c")),
        ("gs://bucket/a?anonymous=true", Location("gs", "bucket", "a", anonymous=True)),
        (
            "s3://bucket/a/b?endpoint=http://127.0.0.1:7480&region=eu-central-1&anonymous=true&deadline=2.5",
            Location("s3", "bucket", "a/b", "http://127.0.0.1:7480", "eu-central-1", True, 2.5),
        ),
        (
            "s3://bucket?endpoint=https%3A%2F%2Fhost%3A1/&anonymous=false",
            Location("s3", "bucket", endpoint="https://host:1"),
        ),
    ],
)
def test_what_a_uri_says_is_read_and_written(uri, location):
    assert parse_location(uri, "uri") == location
    assert parse_location(location.uri, "uri") == location


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("s3://", "a bucket of letters"),
        ("s3:///key", "a bucket of letters"),
        ("s3://?region=x", "a bucket of letters"),
        ("s3://bu cket/key", "a bucket of letters"),
        ("s3://bucket//key", "the prefix has no empty part"),
        ("s3://bucket/../key", "the prefix has no empty part"),
        ("s3://bucket/a?regoin=x", "after . come endpoint, region, anonymous, deadline.*correct 'regoin'"),
        ("gs://bucket/a?region=x", "after . come endpoint, anonymous, deadline, each"),
        ("s3://bucket/a?region", "correct 'region'"),
        ("s3://bucket/a?region=", "correct 'region'"),
        ("s3://bucket/a?region=a&region=b", "each once"),
        ("s3://bucket/a?anonymous=1", ": anonymous: got '1'; it is true or false"),
        ("s3://bucket/a?deadline=0", ": deadline: got '0'; a deadline is a number of seconds above 0"),
        ("s3://bucket/a?deadline=nan", "a number of seconds"),
        ("s3://bucket/a?deadline=inf", "a number of seconds"),
        ("s3://bucket/a?deadline=soon", "a number of seconds"),
        ("s3://bucket/a?endpoint=127.0.0.1:7480", "an endpoint is http:// or https://"),
        ("s3://bucket/a?endpoint=http://", "an endpoint is http:// or https://"),
        ("s3://bucket/a?endpoint=http://host:99999", "an endpoint is http:// or https://"),
        ("s3://bucket/a?endpoint=http://host/bucket", "nothing after its port"),
    ],
)
def test_a_malformed_uri_is_refused(uri, rule):
    with pytest.raises(InputError, match=f"uri.*{rule}"):
        parse_location(uri, "uri")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:SECRET@bucket/a",
        "s3://AKIA:SECRET/part@bucket/a",
        "s3://bucket/a?secret_key=SECRET",
        "s3://bucket/a?X-Amz-Signature=SECRET&region=x",
        "s3://bucket/a?endpoint=http://user:SECRET@host:1",
        "s3://bucket/a?endpoint=http%3A%2F%2Fuser:SECRET%40host:1",
        "s3://bucket/a?endpoint=http%3A%2F%2Fuser:SECRET%40host:1&unknown=1",
        "gs://user:SECRET@bucket",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_shown(uri):
    with pytest.raises(InputError) as caught:
        parse_location(uri, "uri")
    assert "SECRET" not in str(caught.value) + repr(caught.value.value)


def test_what_is_no_secret_is_shown():
    uri = "s3://bucket/a?endpoint=http://host:1&region=x"
    assert redact(uri) == uri
    assert redact(uri + "&key=1") == uri + "&key=***"
