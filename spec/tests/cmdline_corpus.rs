//! Command lines as the servers of every era compose them (wire reference §1.3, §7.6, §7.7), with what each must
//! mean here. Each also replays through the properties of the fuzz target: rendering undoes parsing, no secret is shown.

#![allow(clippy::unwrap_used)]

use spec::cmdline::*;

struct Case {
    name: &'static str,
    line: &'static str,
    /// Keys and values that have to be understood.
    means: &'static [(&'static Key, &'static str)],
    mac: Option<&'static str>,
    problems: &'static [&'static str],
    unknown: usize,
    /// Not to be shown.
    secrets: &'static [&'static str],
}

const CORPUS: &[Case] = &[
    Case {
        name: "boots 0.6, workflow",
        line: "ip=dhcp modules=loop,squashfs,sd-mod,usb-storage alpine_repo=http://192.168.1.1/misc/osie/current/repo-x86_64/main \
               modloop=http://192.168.1.1/misc/osie/current/modloop-x86_64 tinkerbell=http://192.168.1.1 syslog_host=192.168.1.1 \
               parch=x86_64 packet_action=workflow packet_state= docker_registry=192.168.1.1 grpc_authority=192.168.1.1:42113 \
               grpc_cert_url=http://192.168.1.1:42114/cert instance_id=0eba0bf8-3772-4b4a-ab9f-6ebe93b90a94 registry_username=admin \
               registry_password=Admin1234== packet_base_url=http://192.168.1.1:8080/workflow \
               worker_id=ce2e62ed-826f-4485-a39f-a82bb74338e2 packet_bootdev_mac=08:00:27:00:00:01 facility=onprem plan= \
               manufacturer= slug= initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200\n",
        means: &[
            (&TINKERBELL, "http://192.168.1.1"),
            (&DOCKER_REGISTRY, "192.168.1.1"),
            (&GRPC_AUTHORITY, "192.168.1.1:42113"),
            (&GRPC_CERT_URL, "http://192.168.1.1:42114/cert"),
            (&REGISTRY_PASSWORD, "Admin1234=="),
            (&PACKET_BASE_URL, "http://192.168.1.1:8080/workflow"),
            (&WORKER_ID, "ce2e62ed-826f-4485-a39f-a82bb74338e2"),
            (&SYSLOG_HOST, "192.168.1.1"),
        ],
        mac: None,
        problems: &[],
        unknown: 5,
        secrets: &["Admin1234"],
    },
    Case {
        name: "boots 0.6, deprovision with vendor secrets",
        line: "ip=dhcp modules=loop tinkerbell=http://10.0.0.1 syslog_host=10.0.0.1 parch=aarch64 packet_action=install packet_state=deprovisioning \
               traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 hollow_client_id=metal hollow_client_request_secret=s3cr3thollow \
               eclypsium_token=t0kenecl packet_bootdev_mac=00:00:ba:dd:be:ef facility=ewr1 iommu.passthrough=1 plan=c1.large.arm \
               manufacturer=foxconn slug=ubuntu_20_04:latest pwhash=$6$saltsalt$hashhash initrd=initramfs-aarch64 console=ttyAMA0,115200",
        means: &[(&TINKERBELL, "http://10.0.0.1"), (&FACILITY, "ewr1"), (&SLUG, "ubuntu_20_04:latest")],
        mac: None,
        problems: &[],
        unknown: 5,
        secrets: &["s3cr3thollow", "t0kenecl", "hashhash"],
    },
    Case {
        name: "boots 0.7, TLS on, so not said",
        line: "ip=dhcp modules=loop,squashfs,sd-mod,usb-storage alpine_repo=http://10.1.1.2/repo-x86_64/main modloop=http://10.1.1.2/modloop-x86_64 \
               tinkerbell=http://10.1.1.2 syslog_host=10.1.1.2 parch=x86_64 packet_action=workflow packet_state= osie_vendors_url= \
               tink_worker_image=quay.io/tinkerbell/tink-worker:v0.8.0 grpc_authority=10.1.1.2:42113 packet_base_url=http://10.1.1.2/workflow \
               instance_id=i-1 worker_id=08:00:27:9e:f5:3a packet_bootdev_mac=08:00:27:9e:f5:3a facility=sandbox intel_iommu=on iommu=pt \
               initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200",
        means: &[
            (&TINK_WORKER_IMAGE, "quay.io/tinkerbell/tink-worker:v0.8.0"),
            (&WORKER_ID, "08:00:27:9e:f5:3a"),
            (&PACKET_BASE_URL, "http://10.1.1.2/workflow"),
        ],
        mac: None,
        problems: &[],
        unknown: 7,
        secrets: &[],
    },
    Case {
        name: "boots 0.8, registry with credentials, VLAN, TLS off",
        line: "ip=dhcp modules=loop,squashfs,sd-mod,usb-storage tinkerbell=http://172.17.18.19 syslog_host=172.17.18.19 \
               tink_worker_image=172.17.18.19/tink-worker:v0.8.0 insecure_registries=172.17.18.19,10.0.0.9:5000 hw_addr=08:00:27:9e:f5:3a \
               vlan_id=30 grpc_authority=172.17.18.19:42113 packet_base_url=http://172.17.18.19/workflow tinkerbell_tls=false \
               docker_registry=172.17.18.19 registry_username=bob registry_password=a=b?x=y instance_id= worker_id=08:00:27:9e:f5:3a \
               packet_bootdev_mac=08:00:27:9e:f5:3a facility= intel_iommu=on iommu=pt initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200",
        means: &[
            (&VLAN_ID, "30"),
            (&TINKERBELL_TLS, "false"),
            (&REGISTRY_PASSWORD, "a=b?x=y"),
            (&INSECURE_REGISTRIES, "172.17.18.19,10.0.0.9:5000"),
        ],
        mac: Some("08:00:27:9e:f5:3a"),
        problems: &[],
        unknown: 7,
        secrets: &["a=b?x=y"],
    },
    Case {
        name: "smee 0.9 to 0.15, hook.ipxe",
        line: "vlan_id= facility=onprem syslog_host=192.168.2.111 grpc_authority=192.168.2.111:42113 tinkerbell_tls=false \
               worker_id=52:54:00:aa:88:2a hw_addr=52:54:00:aa:88:2a modules=loop,squashfs,sd-mod,usb-storage intel_iommu=on iommu=pt \
               initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200 tink_worker_image=quay.io/tinkerbell/tink-worker:v0.10.0\n",
        means: &[(&GRPC_AUTHORITY, "192.168.2.111:42113"), (&WORKER_ID, "52:54:00:aa:88:2a")],
        mac: Some("52:54:00:aa:88:2a"),
        problems: &[],
        unknown: 6,
        secrets: &[],
    },
    Case {
        name: "smee with a facility that holds consoles",
        line: "facility=onprem console=ttyS0 console=tty1 syslog_host=192.168.2.111 grpc_authority=192.168.2.111:42113 tinkerbell_tls=false \
               tinkerbell_insecure_tls=false worker_id=52:54:00:aa:88:2a hw_addr=52:54:00:aa:88:2a",
        means: &[(&FACILITY, "onprem"), (&TINKERBELL_INSECURE_TLS, "false")],
        mac: Some("52:54:00:aa:88:2a"),
        problems: &[],
        unknown: 2,
        secrets: &[],
    },
    Case {
        name: "the monorepo, operator's arguments last",
        line: "syslog_host=192.168.2.50 grpc_authority=192.168.2.50:42113 tinkerbell_tls=false tinkerbell_insecure_tls=true \
               worker_id=machine-7 hw_addr=52:54:00:12:34:01 modules=loop,squashfs,sd-mod,usb-storage intel_iommu=on iommu=pt \
               initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200 tink_worker_image=ghcr.io/tinkerbell/tink-agent:v0.23.0 \
               HTTP_PROXY=http://proxy.corp:3128 HTTPS_PROXY=http://proxy.corp:3128 NO_PROXY=192.168.0.0/16,.corp worker_id=other",
        means: &[
            (&TINK_WORKER_IMAGE, "ghcr.io/tinkerbell/tink-agent:v0.23.0"),
            (&HTTPS_PROXY, "http://proxy.corp:3128"),
            (&NO_PROXY, "192.168.0.0/16,.corp"),
            (&WORKER_ID, "other"),
        ],
        mac: Some("52:54:00:12:34:01"),
        problems: &["worker_id: given more than once; the last value counts"],
        unknown: 6,
        secrets: &[],
    },
    Case {
        name: "the ISO path, patched into 1024 bytes of spaces",
        line: "                 console=ttyAMA0 console=ttyS0 console=tty0 console=tty1 console=ttyS1 vlan_id=16 hw_addr=de:ed:be:ef:fe:ed \
               syslog_host=127.0.0.1:514 grpc_authority=127.0.0.1:42113 tinkerbell_tls=false worker_id=de:ed:be:ef:fe:ed \
               ipam=de-ed-be-ef-fe-ed:16:192.168.2.193:255.255.255.0:192.168.2.1:server.example.com:1.1.1.1,8.8.8.8:example.com:132.163.96.2               ",
        means: &[
            (
                &IPAM,
                "de-ed-be-ef-fe-ed:16:192.168.2.193:255.255.255.0:192.168.2.1:server.example.com:1.1.1.1,8.8.8.8:example.com:132.163.96.2",
            ),
            (&VLAN_ID, "16"),
        ],
        mac: Some("de:ed:be:ef:fe:ed"),
        problems: &[],
        unknown: 5,
        secrets: &[],
    },
    Case {
        name: "CaptainOS",
        line: "console=ttyS0 facility=onprem grpc_authority=10.0.0.1:42113 tinkerbell_tls=false worker_id=w docker_registry=ghcr.io/tinkerbell \
               syslog_host=10.0.0.1 syslog_port=1514 insecure_registries=10.0.0.1:5000 interface=eth0",
        means: &[(&SYSLOG_PORT, "1514"), (&DOCKER_REGISTRY, "ghcr.io/tinkerbell")],
        mac: None,
        problems: &[],
        unknown: 1,
        secrets: &[],
    },
    Case {
        name: "what panics Hook: bare known keys, and a misspelt one",
        line: "tinkerbell_tls HTTP_PROXY worker_id grpc_authority=10.0.0.1 tinkerbel_tls=false",
        means: &[],
        mac: None,
        problems: &[
            "tinkerbell_tls: given without a value, expected tinkerbell_tls=true or false",
            "HTTP_PROXY: given without a value, expected HTTP_PROXY=a URL or host:port",
            "worker_id: given without a value, expected worker_id=text without quotes (they would be part of the value: no loader removes them)",
            "grpc_authority: \"10.0.0.1\" is not host:port",
        ],
        unknown: 1,
        secrets: &[],
    },
    Case {
        name: "quotes, which nobody removes",
        line: "BOOT_IMAGE=/vmlinuz grpc_authority=\"10.0.0.1:42113\" hw_addr='52:54:00:00:00:01' BOOTIF=01-52-54-00-00-00-01 registry_password=\"hunter2\"",
        means: &[(&BOOTIF, "01-52-54-00-00-00-01")],
        mac: Some("52:54:00:00:00:01"),
        problems: &[
            "grpc_authority: \"\\\"10.0.0.1:42113\\\"\" is not host:port",
            "hw_addr: \"'52:54:00:00:00:01'\" is not a MAC address",
            "registry_password: \"***\" is not text without quotes (they would be part of the value: no loader removes them)",
        ],
        unknown: 1,
        secrets: &["hunter2"],
    },
    Case {
        name: "our own netboot",
        line: "grpc_authority=10.0.0.1:42113 tinkerbell_tls=false tinkerbell_insecure_tls=false worker_id=52:54:00:00:00:01 \
               hw_addr=52:54:00:00:00:01 ironhook.worker=builtin initrd=initramfs-x86_64 console=tty0 console=ttyS0,115200",
        means: &[(&IRONHOOK_WORKER, "builtin")],
        mac: Some("52:54:00:00:00:01"),
        problems: &[],
        unknown: 3,
        secrets: &[],
    },
];

#[test]
fn command_lines_of_every_era_mean_what_they_meant() {
    for case in CORPUS {
        let line = Cmdline::parse(case.line);
        for (key, value) in case.means {
            assert_eq!(line.get(key), Some(*value), "{}: {}", case.name, key.name);
        }
        assert_eq!(line.boot_mac().map(|mac| mac.to_string()).as_deref(), case.mac, "{}", case.name);
        let problems: Vec<_> = line.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems, case.problems, "{}", case.name);
        assert_eq!(line.unknown().len(), case.unknown, "{}: {:?}", case.name, line.unknown());
        let words: Vec<_> = case.line.split_whitespace().collect();
        assert_eq!(line.render(), words.join(" "), "{}", case.name);
        let told = format!("{line:?} {:?} {:?}", line.describe(), line.problems());
        for secret in case.secrets {
            assert!(case.line.contains(secret) && !told.contains(secret), "{}: {secret} in {told}", case.name);
        }
    }
}
