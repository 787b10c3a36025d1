//! An authority with a broker's and a client's certificate, made by openssl.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const EXTENSIONS: &str = "
[req]
distinguished_name = dn
prompt = no
[dn]
CN = spotd test
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost, IP:::1
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
";

/// An authority with a broker's and a client's certificate.
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("openssl.cnf"), EXTENSIONS).expect("written");
        let it = Self { dir };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let request = ["req", "-config", "openssl.cnf", "-subj"];
        it.openssl(&[
            &request[..],
            &["/CN=authority", "-x509", "-days", "2", "-extensions", "ca"],
            &key,
            &["-keyout", "ca.key", "-out", "ca.pem"],
        ]);
        for name in ["server", "client"] {
            let file = |kind: &str| format!("{name}.{kind}");
            let (subject, keyfile, csr, pem) = (format!("/CN={name}"), file("key"), file("csr"), file("pem"));
            it.openssl(&[&request[..], &[&subject, "-new"], &key, &["-keyout", &keyfile, "-out", &csr]]);
            it.openssl(&[
                &["x509", "-req", "-in", &csr, "-CA", "ca.pem", "-CAkey", "ca.key"][..],
                &[
                    "-CAcreateserial",
                    "-days",
                    "2",
                    "-extfile",
                    "openssl.cnf",
                    "-extensions",
                    name,
                    "-out",
                    &pem,
                ],
            ]);
        }
        it
    }

    fn openssl(&self, arguments: &[&[&str]]) {
        let done = Command::new("openssl").current_dir(self.dir.path()).args(arguments.concat()).output();
        let done = done.expect("openssl starts; `make test` installs it");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
