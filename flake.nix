{
  description = "Ironhook: an in-memory installation environment for bare metal, and the slim server that drives it";

  inputs.nixpkgs.url = "nixpkgs";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      devShells = each (pkgs: {
        default = pkgs.mkShell { packages = import ./hack/packages.nix pkgs; };
      });
    };
}
