"""An instance is who its cloud says: each signed word verified, and every forged one refused."""

import base64
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nightingale_hub.auth import sha256_hex
from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.errors import BadInput, ConfigError, NotAllowed, Unavailable
from nightingale_hub.instance.evidence import ensure_key, prove
from nightingale_hub.secrets_at_rest import encrypt
from nightingale_hub.services.supervisor.identity.admission import bind_nonce, read_evidence
from nightingale_hub.services.supervisor.identity.authority import (
    ensure_authority,
    fingerprint_key,
)
from nightingale_hub.services.supervisor.identity.cms import Malformed, parse_signed
from nightingale_hub.services.supervisor.identity.evidence import Expected, Said, check_said
from nightingale_hub.services.supervisor.service import make
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform.states import save_state
from tests.authority import (
    NOW,
    Party,
    make_request,
    sign_attested,
    sign_aws,
    sign_token,
)
from tests.record import add_instance
from tests.serving import serving

AT_US = int(NOW.timestamp()) * US_PER_S
HUB = "https://hub.example/"


@pytest.fixture(scope="module")
def cloud():
    return Party("A Cloud")


@pytest.fixture(scope="module")
def stranger():
    return Party("A Stranger")


@pytest.fixture(scope="module")
def azure():
    root = Party("Root")
    between = Party("Between", root)
    return root, between, Party("metadata.azure.com", between, is_authority=False)


DOCUMENT = {
    "accountId": "123456789012",
    "region": "us-east-1",
    "instanceId": "i-1234567890abcdef0",
    "imageId": "ami-0a",
    "pendingTime": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
}
CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": HUB,
    "exp": int((NOW + timedelta(hours=1)).timestamp()),
    "google": {
        "compute_engine": {
            "instance_id": "8087716956832600000",
            "project_id": "nightingale-test",
            "zone": "europe-west4-a",
            "instance_creation_timestamp": int(NOW.timestamp()),
        }
    },
}
ATTESTED: dict[str, Any] = {
    "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
    "subscriptionId": "11111111-2222-3333-4444-555555555555",
    "nonce": "0123456789",
    "timeStamp": {
        "createdOn": NOW.strftime("%m/%d/%y %H:%M:%S -0000"),
        "expiresOn": (NOW + timedelta(hours=6)).strftime("%m/%d/%y %H:%M:%S -0000"),
    },
}


def google_keys(party):
    return json.dumps({"key-1": party.pem})


def test_awss_document_says_which_instance_it_is(cloud):
    said = read_evidence("aws", sign_aws(cloud, **DOCUMENT), cloud.pem, HUB, AT_US)
    assert said == Said("i-1234567890abcdef0", "123456789012", "us-east-1", "ami-0a", AT_US)


def test_another_region_of_aws_signs_with_another_key(cloud, stranger):
    anchors = stranger.pem + cloud.pem
    assert read_evidence("aws", sign_aws(cloud, **DOCUMENT), anchors, HUB, AT_US).subject


def test_what_awss_key_did_not_sign_is_refused(cloud, stranger):
    forged = sign_aws(stranger, **DOCUMENT)
    with pytest.raises(NotAllowed, match="no certificate of AWS signed"):
        read_evidence("aws", forged, cloud.pem, HUB, AT_US)
    real = sign_aws(cloud, **DOCUMENT)
    changed = real | {"document": real["document"].replace("i-1234", "i-9999")}
    with pytest.raises(NotAllowed, match="no certificate of AWS signed"):
        read_evidence("aws", changed, cloud.pem, HUB, AT_US)


@pytest.mark.parametrize(
    "evidence", [{}, {"document": "{}"}, {"document": "{}", "signature": "%"}, {"token": "a.b.c"}]
)
@pytest.mark.parametrize("which", ["aws", "azure", "gcp", "gcp_cloud_run", "mars"])
def test_what_is_no_evidence_is_refused(cloud, which, evidence):
    anchors = google_keys(cloud) if which == "gcp" else cloud.pem
    with pytest.raises(NotAllowed):
        read_evidence(which, evidence, anchors, HUB, AT_US)


def test_what_is_signed_and_not_as_the_cloud_writes_it_is_refused(cloud):
    with pytest.raises(NotAllowed, match="not as this cloud writes it"):
        read_evidence("aws", sign_aws(cloud, instanceId="i-1"), cloud.pem, HUB, AT_US)


def test_googles_token_says_which_instance_it_is(cloud):
    said = read_evidence("gcp", sign_token(cloud, CLAIMS), google_keys(cloud), HUB, AT_US)
    assert (said.subject, said.account, said.region) == (
        "8087716956832600000",
        "nightingale-test",
        "europe-west4",
    )
    assert said.expires_us == CLAIMS["exp"] * US_PER_S


@pytest.mark.parametrize(
    ("claims", "header", "says"),
    [
        ({"aud": "https://another.example/"}, {}, "meant for somebody else"),
        ({"iss": "https://evil.example"}, {}, "another issuer"),
        ({"google": {}}, {}, "format=full"),
        ({}, {"alg": "none"}, "not signed by RS256"),
        ({}, {"alg": "HS256"}, "not signed by RS256"),
        ({}, {"kid": "key-2"}, "not Google's"),
    ],
)
def test_a_token_that_is_not_for_this_hub_is_refused(cloud, claims, header, says):
    token = sign_token(cloud, CLAIMS | claims, **header)
    with pytest.raises(NotAllowed, match=says):
        read_evidence("gcp", token, google_keys(cloud), HUB, AT_US)


def test_a_token_that_google_did_not_sign_is_refused(cloud, stranger):
    with pytest.raises(NotAllowed, match="signature is wrong"):
        read_evidence("gcp", sign_token(stranger, CLAIMS), google_keys(cloud), HUB, AT_US)
    head, _, signature = sign_token(cloud, CLAIMS)["token"].split(".")
    other = json.dumps(CLAIMS | {"exp": 9999999999}).encode()
    changed = f"{head}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}.{signature}"
    with pytest.raises(NotAllowed, match="signature is wrong"):
        read_evidence("gcp", {"token": changed}, google_keys(cloud), HUB, AT_US)


@pytest.mark.parametrize("has_attributes", [True, False])
def test_azures_document_says_which_instance_it_is(azure, has_attributes):
    root, between, leaf = azure
    evidence = sign_attested(leaf, [between], ATTESTED, has_attributes=has_attributes)
    said = read_evidence("azure", evidence, root.pem, HUB, AT_US)
    assert (said.subject, said.account) == (ATTESTED["vmId"], ATTESTED["subscriptionId"])
    assert (said.nonce, said.begun_us) == ("0123456789", AT_US)


def test_azures_intermediate_may_be_an_anchor(azure):
    root, between, leaf = azure
    evidence = sign_attested(leaf, [], ATTESTED)
    assert read_evidence("azure", evidence, root.pem + between.pem, HUB, AT_US).subject
    with pytest.raises(NotAllowed, match="the signer is not metadata"):
        read_evidence("azure", evidence, root.pem, HUB, AT_US)


def test_a_document_that_azure_did_not_sign_is_refused(azure, stranger):
    root, between, leaf = azure
    for signer, others in (
        (Party("metadata.azure.com", stranger, is_authority=False), [stranger]),
        (Party("evil.example", between, is_authority=False), [between]),
        (stranger, []),
    ):
        with pytest.raises(NotAllowed, match="the signer is not metadata"):
            read_evidence("azure", sign_attested(signer, others, ATTESTED), root.pem, HUB, AT_US)
    old = Party("metadata.azure.com", between, is_authority=False, end=NOW - timedelta(days=1))
    with pytest.raises(NotAllowed, match="the signer is not metadata"):
        read_evidence("azure", sign_attested(old, [between], ATTESTED), root.pem, HUB, AT_US)
    assert leaf.certificate


@pytest.mark.parametrize("has_attributes", [True, False])
def test_each_changed_byte_of_azures_content_and_signature_is_found(azure, has_attributes):
    root, between, leaf = azure
    sent = sign_attested(leaf, [between], ATTESTED, has_attributes=has_attributes)
    message = base64.b64decode(sent["signature"])
    start = message.index(b"02aab8a4")
    for position in (start, start + 5, len(message) - 1, len(message) - 100):
        changed = bytearray(message)
        changed[position] ^= 1
        evidence = {"signature": base64.b64encode(bytes(changed)).decode()}
        with pytest.raises(NotAllowed):
            read_evidence("azure", evidence, root.pem, HUB, AT_US)


def test_a_message_that_is_cut_or_no_message_at_all_is_malformed(azure):
    _, between, leaf = azure
    message = base64.b64decode(sign_attested(leaf, [between], ATTESTED)["signature"])
    for cut in range(0, len(message) - 1, 37):
        with pytest.raises(Malformed):
            parse_signed(message[:cut])
    for noise in (b"", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x00" * 50, b"{}"):
        with pytest.raises(Malformed):
            parse_signed(noise)


SAID = Said("i-1", "a-1", "here", "ami-0a", AT_US, AT_US + 3600 * US_PER_S, "0123456789")
EXPECTED = Expected("i-1", "a-1", "here", "ami-0a", AT_US - US_PER_S, "0123456789")


def test_what_fits_the_record_is_let_in():
    check_said(SAID, EXPECTED, AT_US)
    check_said(replace(SAID, region=None, image=None, expires_us=None, nonce=None), EXPECTED, AT_US)


@pytest.mark.parametrize(
    ("forged", "says"),
    [
        ({"subject": "i-2"}, "another subject"),
        ({"account": "a-2"}, "another account"),
        ({"region": "there"}, "another region"),
        ({"image": "ami-0b"}, "another image"),
        ({"nonce": "9876543210"}, "another nonce"),
        ({"begun_us": AT_US - 3600 * US_PER_S}, "before this launch"),
        ({"begun_us": AT_US + 3600 * US_PER_S}, "from the future"),
        ({"expires_us": AT_US - 3600 * US_PER_S}, "has expired"),
    ],
)
def test_evidence_of_anything_else_is_refused(forged, says):
    with pytest.raises(NotAllowed, match=says):
        check_said(replace(SAID, **forged), EXPECTED, AT_US)


def test_a_certificate_names_the_instance_and_lasts_a_day(tmp_path):
    authority = ensure_authority(tmp_path, AT_US)
    assert ensure_authority(tmp_path, AT_US).pem == authority.pem
    assert (tmp_path / "instance-authority.pem").stat().st_mode & 0o777 == 0o600
    key, request = make_request()
    made = x509.load_pem_x509_certificate(authority.issue(request, "i-1", AT_US).encode())
    made.verify_directly_issued_by(authority.certificate)
    assert made.subject.rfc4514_string() == "CN=i-1"
    assert made.public_key() == key.public_key()
    assert (made.not_valid_after_utc - NOW).total_seconds() == 24 * 3600
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)


def test_a_request_that_is_none_or_of_a_weak_key_is_refused(tmp_path):
    authority = ensure_authority(tmp_path, AT_US)
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(BadInput, match="curve P-256"):
            authority.issue(make_request(key)[1], "i-1", AT_US)
    with pytest.raises(BadInput, match="as PEM"):
        authority.issue("-----BEGIN", "i-1", AT_US)
    _, request = make_request()
    body = bytearray(base64.b64decode("".join(request.splitlines()[1:-1])))
    body[-1] ^= 1
    text = base64.encodebytes(bytes(body)).decode()
    broken = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(BadInput):
        authority.issue(broken, "i-1", AT_US)
    assert len(fingerprint_key(request)) == 64


class Launched:
    """An instance on AWS that Terraform has made and that has not called home yet."""

    def __init__(self, database, settings, authority):
        self.database, self.settings, self.authority = database, settings, authority
        self.nonce = "5e" * 32
        secret = {"cmd": ["x"], "args": [], "env": {}}
        with database.write() as conn:
            self.key = add_instance(
                conn,
                cloud="aws",
                region="us-east-1",
                instance_type="g5.xlarge",
                actual="booting",
                nonce_sha256=sha256_hex(self.nonce),
                launch_secret=encrypt(settings.secret_key(), secret),
                created_us=now_us(),
            )

    def say_outputs(self):
        outputs = {"identity_subject": "i-1234567890abcdef0", "private_ip": "10.64.0.9"}
        state = {
            "version": 4,
            "outputs": {name: {"value": each, "type": "string"} for name, each in outputs.items()},
        }
        with self.database.write() as conn:
            save_state(
                conn,
                self.settings.secret_key(),
                f"instance/{self.key}",
                json.dumps(state),
                None,
                1,
            )

    def call(self, **changed):
        document = DOCUMENT | {"pendingTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        return {
            "instance_id": self.key,
            "nonce": self.nonce,
            "boot_id": "ab" * 16,
            "host": "10.64.0.9",
            "port": 8888,
            "csr": make_request()[1],
            "evidence": sign_aws(self.authority, **document),
        } | changed


@pytest.fixture
async def at_aws(database, tmp_path, monkeypatch, cloud):
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "supervisor-token")
    anchors = tmp_path / "aws.pem"
    anchors.write_text(cloud.pem)
    aws = {
        "zones": ["us-east-1a"],
        "image": "ami-0a",
        "hub_cidrs": ["10.0.0.0/24"],
        "identity": {"account": "123456789012", "anchors": str(anchors)},
    }
    settings = NightingaleHub(state_dir=str(tmp_path / "state"), clouds={"aws": aws})
    settings.ensure_state()
    async with serving("supervisor", database, make, settings) as (client, _):
        yield client, Launched(database, settings, cloud)


async def test_an_instance_on_aws_gets_its_certificate_once(at_aws):
    client, launched = at_aws
    early = await client.post("bootstrap", "", json=launched.call())
    assert early.status_code == 503
    launched.say_outputs()
    answer = await client.post("bootstrap", "", json=launched.call())
    assert answer.status_code == 200, answer.text
    said = answer.json()
    made = x509.load_pem_x509_certificate(said["certificate"].encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(said["authority"].encode()))
    assert made.subject.rfc4514_string() == f"CN={launched.key}"
    assert said["cpus"] == 4
    replayed = await client.post("bootstrap", "", json=launched.call())
    assert replayed.status_code == 403
    assert "wrong, used or withdrawn" in replayed.text


async def test_who_is_not_the_instance_gets_nothing_and_burns_no_nonce(at_aws, stranger):
    client, launched = at_aws
    launched.say_outputs()
    other = DOCUMENT | {"instanceId": "i-other"}
    old = DOCUMENT | {"pendingTime": "2026-01-01T00:00:00Z"}
    for changed, status, says in (
        ({"evidence": sign_aws(stranger, **DOCUMENT)}, 403, "no certificate of AWS signed"),
        ({"evidence": sign_aws(launched.authority, **other)}, 403, "another subject"),
        ({"evidence": sign_aws(launched.authority, **old)}, 403, "before this launch"),
        ({"host": "10.64.0.10"}, 403, "is not the address"),
        ({"host": "127.0.0.1"}, 403, "is not the address"),
        ({"evidence": "a word"}, 400, "brings its evidence"),
        ({"evidence": {"document": "x" * 40_000}}, 413, "16 KiB"),
        ({"csr": "x"}, 400, "csr"),
        ({"nonce": "00" * 32}, 403, "wrong, used"),
    ):
        answer = await client.post("bootstrap", "", json=launched.call(**changed))
        assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert (await client.post("bootstrap", "", json=launched.call())).status_code == 200


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of every cloud, as far as an instance asks it for its identity."""

    party: Party
    attested: dict[str, str]

    def do_PUT(self):
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.reply("a-token")

    def do_GET(self):
        url = urlsplit(self.path)
        asked = {name: each[0] for name, each in parse_qs(url.query).items()}
        if url.path.startswith("/latest/dynamic/instance-identity/"):
            if self.headers["X-aws-ec2-metadata-token"] != "a-token":
                self.send_error(401)
                return
            self.reply(sign_aws(self.party, **DOCUMENT)[url.path.rpartition("/")[2]])
        elif url.path == "/metadata/attested/document" and self.headers["Metadata"] == "true":
            self.reply(json.dumps({"encoding": "pkcs7", "signature": asked["nonce"]}))
        elif url.path.endswith("/identity") and self.headers["Metadata-Flavor"] == "Google":
            claims = CLAIMS | {"aud": asked["audience"]}
            self.reply(sign_token(self.party, claims)["token"] * (asked["format"] == "full"))
        else:
            self.send_error(404)

    def reply(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(cloud):
    handler = type("Handler", (Metadata,), {"party": cloud})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_instance_asks_its_cloud_and_brings_a_key_of_its_own(tmp_path, metadata, cloud):
    hub = "http://127.0.0.1:9/"
    brought = prove(tmp_path, "aws", "i-1", hub, metadata)
    said = read_evidence("aws", brought["evidence"], cloud.pem, HUB, AT_US)
    assert said.subject == "i-1234567890abcdef0"
    assert brought["host"] == "127.0.0.1"
    authority = ensure_authority(tmp_path, AT_US)
    made = x509.load_pem_x509_certificate(authority.issue(brought["csr"], "i-1", AT_US).encode())
    assert made.public_key() == ensure_key(tmp_path).public_key()
    assert (tmp_path / "instance.key").stat().st_mode & 0o777 == 0o600
    token = prove(tmp_path, "gcp", "i-1", hub, metadata)["evidence"]
    assert read_evidence("gcp", token, google_keys(cloud), hub, AT_US).account
    # Azure signs a nonce, which the hub works out from the key of the request.
    bound = prove(tmp_path, "azure", "i-1", hub, metadata)
    assert bound["evidence"] == {"signature": bind_nonce(bound["csr"])}
    with pytest.raises(ConfigError, match="no signed word"):
        prove(tmp_path, "gcp_cloud_run", "i-1", hub, metadata)


def test_a_metadata_service_that_is_silent_is_asked_again_later(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        prove(tmp_path, "aws", "i-1", HUB, "http://127.0.0.1:9")
