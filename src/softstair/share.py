"""One HTML page that holds .stair files and their decoder, for people who have nothing installed.

The page asks nobody for anything: pictures, bundles and WebAssembly are inside it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from softstair.bundle import Bundle, find_bundle
from softstair.bundle.format import zipped
from softstair.errors import of_file
from softstair.stream import NO_BUNDLE, read_header
from softstair.whole_file import write_whole

# What the worker of a page is made of, each after what it needs.
_MODULES = ("core.js", "png.js", "serve.js", "worker.js")
_BUILDS = {"simd": "softstair.wasm", "relaxed": "softstair-relaxed.wasm"}
_ENCODER = ("manifest.json", "analysis.onnx", "hyper_analysis.onnx")  # what no decoder needs
_NOTICE = "The weights of {names} are licensed {licences}."


def decoder_bundle(bundle: Bundle) -> bytes:
    """The file of a bundle without what only an encoder needs; its fingerprint is the same."""
    return zipped(bundle.entries, (name for name in bundle.entries if name not in _ENCODER))


def album(title: str, pictures: Mapping[str, bytes], bundles: Iterable[Bundle] = ()) -> str:
    """A page with .stair files, by name, and the bundles that they need.

    Args:
        title: of the page.
        pictures: bytes of .stair files; none makes a viewer.
        bundles: that the page holds whether its pictures need them or not.

    Raises:
        StreamError: a file is not one.
        BundleNotFound: its bundle is not installed.
    """
    held = {bundle.fingerprint: bundle for bundle in bundles}
    for name, data in pictures.items():
        with of_file(name):
            header = read_header(data)
            if header.fingerprint != NO_BUNDLE and header.needs not in held:
                held[header.needs] = find_bundle(header.fingerprint, header.pack)
    parts = [_element("wasm", build, _read(file)) for build, file in _BUILDS.items()]
    parts += [_element("bundle", key.hex(), decoder_bundle(bundle)) for key, bundle in held.items()]
    parts += [_element("picture", name, data) for name, data in pictures.items()]
    values = {
        "title": html.escape(title),
        "style": _text("page/page.css"),
        "notes": html.escape(_notice(held.values())),
        "data": "\n".join(parts),
        "decoder": _closed(_worker()),
        "script": _closed(_text("page/page.js")),
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], _text("page/page.html"))


def _notice(bundles: Iterable[Bundle]) -> str:
    known = list(bundles)
    if not known:
        return ""
    licences = sorted({bundle.manifest.licence for bundle in known})
    return _NOTICE.format(names=" and ".join(bundle.name for bundle in known), licences=", ".join(licences))


def _worker() -> str:
    """The modules of the worker as one script."""
    sources = []
    for module in _MODULES:
        text = re.sub(r"^import .*;$\n", "", _text(module), flags=re.MULTILINE)
        sources.append(re.sub(r"^export (?=class|function|async|const)", "", text, flags=re.MULTILINE))
    return "\n".join(sources)


def _element(kind: str, name: str, content: bytes) -> str:
    packed = base64.b64encode(zlib.compress(content, 9)).decode()
    return f'<script type="text/plain" data-{kind}="{html.escape(name)}">{packed}</script>'


def _closed(script: str) -> str:
    """A script that no text in it can end early."""
    return script.replace("</", r"<\/")


def _read(name: str) -> bytes:
    return (resources.files("softstair") / "js" / name).read_bytes()


def _text(name: str) -> str:
    return _read(name).decode()


def service_worker() -> str:
    """The service worker of a site as one script: what ``make web`` writes."""
    text = _text("service-worker.js")
    return "\n".join(
        [
            _worker().rsplit("// The worker of browsers.", 1)[0],
            re.sub(r"^import .*;$\n", "", text, flags=re.MULTILINE),
        ]
    )


_PACKAGE_TYPES = """export const fingerprint: string;
export const url: URL;
declare const bundle: { fingerprint: string; url: URL };
export default bundle;
"""


def write_packages(folder: Path, bundles: Iterable[Bundle]) -> None:
    """Write an npm package for each bundle, in a folder of its name."""
    for bundle in bundles:
        package = folder / f"softstair-bundle-{bundle.name}"
        package.mkdir(parents=True, exist_ok=True)
        for name, content in package_of(bundle).items():
            write_whole(package / name, content)


def package_of(bundle: Bundle) -> dict[str, bytes]:
    """The files of an npm package that carries a bundle, by name."""
    fingerprint, name = bundle.fingerprint.hex(), f"softstair-bundle-{bundle.name}"
    file = f"{fingerprint}.stairs"
    description = {
        "name": name,
        "version": "0.1.0",
        "description": f"The bundle {bundle.name} for the package softstair",
        "license": bundle.manifest.licence,
        "type": "module",
        "exports": {".": {"types": "./index.d.ts", "default": "./index.js"}, f"./{file}": f"./{file}"},
        "files": ["index.js", "index.d.ts", file],
    }
    module = (
        f'export const fingerprint = "{fingerprint}";\n'
        f'export const url = new URL("./{file}", import.meta.url);\n'
        "export default { fingerprint, url };\n"
    )
    return {
        "package.json": (json.dumps(description, indent=2) + "\n").encode(),
        "index.js": module.encode(),
        "index.d.ts": _PACKAGE_TYPES.encode(),
        file: decoder_bundle(bundle),
    }
