# The development shell, for people without flakes. The package list is the one of the flake.
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell { packages = import ./hack/packages.nix pkgs; }
