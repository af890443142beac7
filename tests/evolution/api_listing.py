#!/usr/bin/env python3
"""Lists everything public that rustdoc documents of a crate, one line per item with its signature.

    api_listing.py list DOC_FOLDER                 print the listing of target/doc/CRATE
    api_listing.py compare OLD_LISTING DOC_FOLDER  name what OLD_LISTING has and the documentation no longer has

`compare` exits with 1 where an author's code may no longer compile: an item is gone, or its signature changed. A struct
that gained a field or became `#[non_exhaustive]` shows as a changed declaration; ALLOWED names those that are meant, each
with its reason.
"""

import html
import re
import sys
from pathlib import Path

# 1.0 was never published: marking structs non-exhaustive is the last chance to make later fields harmless.
ALLOWED = {
    "struct.BackboneInfo", "struct.HeadOutput", "struct.Lora", "struct.LossSpec", "struct.MaskLoss",
    "struct.ViewFeatures", "loss/struct.Targets", "testkit/struct.Finding", "testkit/struct.Parameter",
    "testkit/struct.Report", "testkit/enum.Outcome", "enum.Adapter", "enum.Decoder", "enum.LogLevel", "enum.Pooling",
    # The table of operations grows at its end; a host of 1.1 fills in what 1.1 appended.
    "abi/table/struct.HostOps",
    # What a build is: these numbers change with every version.
    "abi/objects/constant.ABI_VERSION", "abi/objects/constant.ABI_VERSION_TEXT",
}
ITEM = re.compile(r'<pre class="rust item-decl">(.*?)</pre>', re.S)
# Methods, fields, variants and associated items carry an id; what rustdoc adds from other crates' traits does not count.
MEMBER = re.compile(
    r'<(?:section|span) id="((?:method|tymethod|associatedconstant|associatedtype|structfield|variant)\.[\w.-]+)"'
    r' class="[^"]*">(.*?)(?:</h4>|</h3>|</code></span>)', re.S)
FOREIGN = ("synthetic-implementations-list", "blanket-implementations-list")


def text(markup: str) -> str:
    markup = re.sub(r'<(?:a|span)[^>]*class="(?:src[^"]*|anchor|since[^"]*)"[^>]*>.*?</(?:a|span)>', "", markup)
    plain = html.unescape(re.sub(r"<[^>]+>", "", markup))
    return re.sub(r"\s+", " ", plain).replace("§", "").strip()


def listing(folder: Path) -> dict[str, str]:
    items = {}
    for page in sorted(folder.rglob("*.html")):
        name = page.relative_to(folder).with_suffix("").as_posix()
        kind = name.rsplit("/", 1)[-1].split(".")[0]
        if kind not in ("struct", "enum", "trait", "fn", "constant", "macro", "type", "static", "derive", "union"):
            continue
        content = page.read_text(encoding="utf-8")
        declaration = ITEM.search(content)
        if not declaration:
            # A page of a private module, which only sends on to where the item is public.
            continue
        items[name] = text(declaration.group(1))
        for heading in FOREIGN:
            content = content.split(f'id="{heading}"')[0]
        for member, signature in MEMBER.findall(content):
            items[f"{name}#{member}"] = text(signature)
    return items


def main() -> int:
    mode, *paths = sys.argv[1:]
    if mode == "list":
        for name, signature in listing(Path(paths[0])).items():
            print(f"{name}\t{signature}")
        return 0
    old = dict(line.split("\t", 1) for line in Path(paths[0]).read_text(encoding="utf-8").splitlines())
    new = listing(Path(paths[1]))
    gone = [name for name in old if name not in new]
    changed = [name for name in old if name in new and new[name] != old[name] and name not in ALLOWED]
    for name in gone:
        print(f"gone: {name}: {old[name]}")
    for name in changed:
        print(f"changed: {name}:\n  {old[name]}\n  {new[name]}")
    print(f"{len(old)} items of {paths[0]}: {len(gone)} gone, {len(changed)} changed; {len(new) - len(old) + len(gone)} new")
    return 1 if gone or changed else 0


if __name__ == "__main__":
    sys.exit(main())
