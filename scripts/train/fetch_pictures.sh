#!/usr/bin/env bash
# Fetches pictures for scripts/train/train_nano.py into a folder that git ignores; nothing is committed.
# Needs npm and, for the Debian packages, apt-get (or: leave them out).
#
#   scripts/train/fetch_pictures.sh [FOLDER]      # default runs/nano-pictures
#
# FOLDER/cutouts: Fluent Emoji (npm @lobehub/fluent-emoji-3d; MIT) and Open Clip Art (Debian
# openclipart-png; public domain). FOLDER/backgrounds: desktop photographs of Debian's packages;
# their licences allow use and differ from picture to picture, see usr/share/doc of each.
set -euo pipefail
cd "$(dirname "$0")/../.."
target="$(mkdir -p "${1:-runs/nano-pictures}" && cd "${1:-runs/nano-pictures}" && pwd)"
fail() { echo "error: $*" >&2; exit 1; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$target/cutouts" "$target/backgrounds"

if [ ! -d "$target/cutouts/emoji" ]; then
    command -v npm >/dev/null || fail "npm is not installed; it fetches the emoji"
    (cd "$work" && npm pack --silent @lobehub/fluent-emoji-3d >/dev/null && tar xzf ./*.tgz)
    mv "$work/package" "$target/cutouts/emoji"
fi

command -v apt-get >/dev/null || fail "no apt-get here: only the emoji were fetched"
cd "$work"
mkdir tree
apt-get download openclipart-png mate-backgrounds lomiri-wallpapers-16.04 \
    lomiri-wallpapers-20.04 plasma-workspace-wallpapers ukui-wallpapers &>/dev/null \
    || fail "apt-get could not fetch the Debian packages; run: apt-get update"
for package in ./*.deb; do
    name="$(basename "$package" | cut -d_ -f1)"
    dpkg-deb -x "$package" "tree/$name"
    if [ "$name" = openclipart-png ]; then
        rm -rf "$target/cutouts/openclipart"
        mv "tree/$name/usr/share/openclipart/png" "$target/cutouts/openclipart"
        find "$target/cutouts/openclipart" -type l -delete  # the same picture in other groups
    else
        rm -rf "${target:?}/backgrounds/$name"
        mkdir "$target/backgrounds/$name"
        # One copy of each picture: other sizes and dark variants add nothing.
        find "tree/$name" -type f \( -name '*.jpg' -o -name '*.png' -o -name '*.webp' \) \
            -size +60k ! -name 'screenshot*' ! -path '*images_dark*' ! -name '*x2160*' \
            ! -name '*x3172*' | while read -r file; do
            label="$(dirname "$file" | tr / _ | sed 's/.*\(wallpapers\|backgrounds\)_//')"
            cp "$file" "$target/backgrounds/$name/$label-$(basename "$file")"
        done
    fi
done
echo "$target"
