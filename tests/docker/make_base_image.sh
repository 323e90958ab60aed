#!/bin/sh
# Makes a stand-in for the public base image from Debian's packages, where no registry of images can
# be reached. As root, with debootstrap and a running Docker engine:
#   sh tests/docker/make_base_image.sh [TAG]
# About 80 s and 300 MB. The certificates that this machine trusts go along.
set -eu
tag=${1:-$(sed -n 's/^BASE_IMAGE=//p' "$(dirname "$0")/../../VERSIONS")}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,libpython3.11,ca-certificates \
    bookworm "$root" >/dev/null
bundle=/etc/ssl/certs/ca-certificates.crt
cp -L "$bundle" "$root$bundle"
tar -C "$root" -c . | docker import --change "ENV PIP_CERT=$bundle" - "$tag"
