"""docs/tls.md: `gatesync up --tls`, and the commands below it, typed as they stand there."""

from pathlib import Path

from gatesync.config import load
from tests.docs.following import Following, typed_in
from tests.servers.gatesync import place, sequence_xml
from tests.web.certificates import LOOPBACK, Authority

PAGE = Path(__file__).parents[2] / "docs" / "tls.md"
PORT = ":9640"  # the page's


class Trying(Following):
    """Where the page has gatesync's own port, this run has another."""

    def known(self, text: str) -> str:
        port = self.place.publisher.rpartition(":")[2]
        return super().known(text).replace(PORT, f":{port}")


def test_up_with_tls_and_the_commands_that_the_page_shows(tmp_path: Path) -> None:
    with place(tmp_path) as made:
        made.publisher = made.publisher.replace("http:", "https:")
        made.gateway = made.gateway.replace("http:", "https:")
        (tmp_path / "notice.xml").write_bytes(sequence_xml("notice"))
        stranger = Authority(tmp_path / "stranger", "stranger")
        stranger.file.rename(tmp_path / "company-ca.pem")
        up = made.role("up")
        up.arguments = (*up.arguments, "--tls")
        up.start()
        blocks = typed_in(PAGE.read_text())
        assert len(blocks) == 2
        for block in blocks:
            Trying(made, {"up": up}).follow(block)


def test_the_section_that_the_page_shows_is_one_that_is_read(tmp_path: Path) -> None:
    text = PAGE.read_text().partition("```toml\n")[2].partition("```")[0]
    authority = Authority(tmp_path, "company-ca")
    authority.issue("gateway-1", *LOOPBACK)
    config = tmp_path / "deployment.toml"
    config.write_text(text)
    loaded = load(config)
    assert loaded.warnings == ()
    server, client = loaded.settings.tls.server, loaded.settings.tls.client
    assert server is not None
    assert client is not None
    named = (server.certificate, server.key, server.client_ca, client.ca, client.client_key)
    assert all(path is not None and path.exists() for path in named)
