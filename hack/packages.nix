# What building and testing need, by nixpkgs name; hack/deps has the same list for Debian.
pkgs: with pkgs; [
  apt
  cargo-deny
  cpio
  curl
  distribution # docker-registry
  dnsmasq
  dosfstools
  dpkg
  e2fsprogs
  gcc
  gnumake
  gptfdisk
  grub2
  grub2_efi
  iproute2
  kmod
  mmdebstrap
  mtools
  OVMF
  qemu
  rustup # the version is rust-toolchain.toml's
  shellcheck
  skopeo
  squashfsTools
  util-linux
  xz
  zstd
]
