"""`host serve` with TLS and tokens: what other machines are to reach it by, and what it refuses to be without.

    python tls.py HOST BENCH BACKBONE
"""

import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from server import Server, nifti  # noqa: E402


def certificate(folder, days):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.new",
                    "-out", folder / "cert.new"], check=True, stderr=subprocess.DEVNULL)
    os.rename(folder / "key.new", folder / "key.pem")
    os.rename(folder / "cert.new", folder / "cert.pem")


def main():
    host, bench, backbone = sys.argv[1:4]
    plugin = ["--plugin", f"{bench}/good.so", "--backbone", backbone]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tokens = folder / "tokens.toml"
        add = [host, "serve", "token", "add", "pacs", "--scope", "read,infer", "--tokens", tokens]
        token = subprocess.run(add, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()
        assert token.startswith("anymc3d_") and token not in tokens.read_text()
        assert tokens.stat().st_mode & 0o077 == 0
        bearer = {"Authorization": f"Bearer {token}"}

        command = [host, "serve", *plugin, "--listen", "0.0.0.0:0", "--data", folder / "refused"]
        for more in ([], ["--tokens", tokens]):
            done = subprocess.run([*command, *more], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            assert done.returncode == 2 and "--insecure" in done.stderr, (done.returncode, done.stderr)
        print("0.0.0.0 without TLS or without tokens: refused")

        if subprocess.run(["openssl", "version"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            print("skipped: no openssl to make a certificate with")
            return
        certificate(folder, 2)
        files = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem", "--tokens", tokens]
        context = ssl.create_default_context(cafile=folder / "cert.pem")
        server = Server(host, [*plugin, *files], folder / "data", secure=context)
        status, headers, _ = server.ask("GET", "/jobs")
        assert status == 401, status
        status, record = server.json("POST", "/scans", nifti(1)[0], bearer)
        assert status == 202, record
        status, headers, _ = server.ask("GET", f"/jobs/{record['id']}", headers=bearer)
        assert status == 200 and "strict-transport-security" in headers, headers
        server.secure = None
        try:
            status = server.ask("GET", "/healthz")[0]
        except (OSError, http.client.HTTPException):
            status = 0
        assert status == 0, "plain HTTP is answered"
        print("with TLS: a token is asked for, plain HTTP is not answered")

        def served():
            return ssl.get_server_certificate(("127.0.0.1", server.port))

        before = served()
        time.sleep(1.1)
        certificate(folder, 3)
        until = time.monotonic() + 30
        while served() == before and time.monotonic() < until:
            time.sleep(0.2)
        assert served().split() == (folder / "cert.pem").read_text().split(), "the new certificate is not served"
        (folder / "cert.pem").write_text("broken")
        time.sleep(3)
        assert served() != before, "a file that cannot be read leaves the last certificate"
        assert server.stop() == 0
        print("a new certificate is served without a restart; a broken file leaves the last one")


if __name__ == "__main__":
    main()
