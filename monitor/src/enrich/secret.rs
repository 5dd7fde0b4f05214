//! Credentials, by their usual place: whatever the home, whatever the root of the container. Pure.

/// The class of credential that a file at `path` is; nothing for what is none.
pub(super) fn class(path: &str) -> Option<&'static str> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    let directory = parts.next().unwrap_or_default();
    let above = parts.next().unwrap_or_default();
    by_name(name).or_else(|| by_place(path, above, directory, name))
}

fn by_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "id_rsa" | "id_dsa" | "id_ecdsa" | "id_ed25519" | "id_ecdsa_sk" | "id_ed25519_sk" => "ssh",
        ".netrc" | "_netrc" => "netrc",
        ".git-credentials" => "git",
        ".dockercfg" => "docker",
        "application_default_credentials.json" | "access_tokens.db" => "gcloud",
        "msal_token_cache.json"
        | "msal_token_cache.bin"
        | "accessTokens.json"
        | "azureProfile.json"
        | "service_principal_entries.json" => "azure",
        "wallet.dat" => "wallet",
        ".pypirc" | ".npmrc" => "package",
        ".vault-token" => "vault",
        ".pgpass" => "database",
        _ => return None,
    })
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found == extension)
}

fn by_place(path: &str, above: &str, directory: &str, name: &str) -> Option<&'static str> {
    Some(match (directory, name) {
        (".ssh", "config" | "known_hosts" | "known_hosts.old" | "authorized_keys") => return None,
        (".ssh", name) if has_extension(name, "pub") => return None,
        (".ssh", _) => "ssh",
        ("ssh", name) if name.starts_with("ssh_host_") && name.ends_with("_key") => "ssh",
        (".aws", "credentials" | "config") => "aws",
        ("cache", name) if path.contains("/.aws/") && has_extension(name, "json") => "aws",
        ("gcloud", "credentials.db") => "gcloud",
        (".kube", "config") => "kube",
        ("kubernetes", name) if has_extension(name, "conf") => "kube",
        ("huggingface" | ".huggingface", "token" | "stored_tokens") => "hf",
        (".docker", "config.json") | ("containers", "auth.json") => "docker",
        ("git", "credentials") if above == ".config" => "git",
        ("gh", "hosts.yml") => "git",
        ("keystore", name) if name.starts_with("UTC--") => "wallet",
        ("wallets", _) if above == ".electrum" => "wallet",
        ("solana", "id.json") => "wallet",
        ("etc", "shadow" | "gshadow") => "shadow",
        (_, "token") if path.contains("/kubernetes.io/serviceaccount/") => "service_account",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_by_place_in_any_home_and_any_root() {
        for (path, expected) in [
            ("/home/a/.ssh/id_rsa", Some("ssh")),
            ("/home/r/.ssh/deploy_key", Some("ssh")),
            ("/home/r/.ssh/deploy_key.pub", None),
            ("/home/a/.ssh/known_hosts", None),
            ("/run/containerd/rootfs/srv/.aws/credentials", Some("aws")),
            ("/home/r/.aws/sso/cache/ab12.json", Some("aws")),
            ("/home/r/.config/gcloud/application_default_credentials.json", Some("gcloud")),
            ("/home/u/.azure/msal_token_cache.json", Some("azure")),
            ("/home/r/.kube/config", Some("kube")),
            ("/home/r/.cache/huggingface/token", Some("hf")),
            ("/home/r/.netrc", Some("netrc")),
            ("/home/r/.docker/config.json", Some("docker")),
            ("/home/r/.git-credentials", Some("git")),
            ("/srv/repo/.git/config", None),
            (
                "/run/secrets/kubernetes.io/serviceaccount/..2026_11_24/token",
                Some("service_account"),
            ),
            ("/etc/shadow", Some("shadow")),
            ("/models/llama/config.json", None),
            ("token", None),
            ("", None),
        ] {
            assert_eq!(class(path), expected, "{path}");
        }
    }
}
