"""What is read, converted, skipped and refused of images; the table in docs/data.md is written from it."""

from models.data.data_rules import Rule
from models.image.raw.arrays import ARCHIVE, IDX, IDX_FILES
from models.image.raw.class_folders import PARTS, USES
from models.image.raw.conversion import LONGEST_SIDE, MOST_BYTES, MOST_PIXELS, REDUCED_PIXELS, SUPPORTED
from models.image.raw.folder_contents import SYSTEM_FILES, SYSTEM_FOLDERS

IDX_NAMES = ", ".join(f"`{prefix}-{name}`" for prefix in IDX for name in IDX_FILES)
SYSTEM = ", ".join(f"`{name.strip()}`" for name in sorted(SYSTEM_FILES | SYSTEM_FOLDERS))
ALIASES = {part: ", ".join(f"`{name}`" for name, other in PARTS.items() if other == part) for part in PARTS.values()}

RULES = (
    Rule("Layouts", "a folder for each class, with images in it or in its subfolders", "used", "the name is the class"),
    Rule("Layouts", f"`{ARCHIVE}` with `images`, `labels` and perhaps `part`; {IDX_NAMES}, also with `.gz`", "used"),
    Rule("Layouts", "one folder around all that, such as `archive/data`", "used", "without a part in the splits"),
    Rule("Parts", f"class folders in {ALIASES['train']}, or parts in a class folder", "used", f"for {USES['train']}"),
    Rule("Parts", ALIASES["test"], "used", f"for {USES['test']}"),
    Rule("Parts", ALIASES["valid"], "used", "for valid, and train for nothing else; without a test part, for eval"),
    Rule("Parts", "`train` alone, or no part", "used", f"for {USES['']}"),
    Rule("Files", SUPPORTED.replace(" or ", ", "), "used", "by their content, whatever their suffix"),
    Rule("Files", "names that begin with `.`", "skipped", "as hidden"),
    Rule("Files", SYSTEM, "skipped", "as files of the system"),
    Rule("Files", "files that are no images", "skipped", "by their suffix"),
    Rule("Files", "files outside the class folders; links to nothing or to a folder above", "skipped"),
    Rule(
        "Files",
        "a damaged image, or a format of images that is not read, such as HEIC or SVG",
        "refused",
        "with its path",
    ),
    Rule(
        "Files",
        f"more than {MOST_BYTES >> 20} MiB, {MOST_PIXELS:,} pixels or {LONGEST_SIDE:,} pixels on a side",
        "refused",
    ),
    Rule("Files", "images in a folder beside the parts", "refused"),
    Rule("Pixels", "8-bit grey or RGB as PNG or JPEG", "used", "the bytes unchanged"),
    Rule("Pixels", "other formats, palettes, CMYK, 1 and 16 bits", "converted", "to 8-bit grey or RGB"),
    Rule("Pixels", "transparent pixels", "converted", "to white"),
    Rule("Pixels", "an EXIF orientation", "converted", "turned upright"),
    Rule("Pixels", f"more than {REDUCED_PIXELS:,} pixels", "converted", "reduced by a whole factor"),
    Rule("Pixels", "32-bit pixels without a known range", "refused"),
    Rule("Classes", "names in other Unicode forms", "used", "as one class, and a note"),
    Rule("Classes", "equal images in several classes or splits", "used", "and a note"),
    Rule("Classes", "one image; no image in eval; a class folder without files", "used", "and a note"),
    Rule("Classes", "fewer than two classes; a class without images in train; a split without images", "refused"),
    Rule("Classes", "names that are no folder's, a span's or have control characters", "refused"),
    Rule("Classes", "a class folder that has files but no image", "refused"),
)
