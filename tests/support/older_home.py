"""The online folder of a gateway that did not store answers yet: two purchases, a label, a restart, a purchase, a kill."""

import base64
import json
import zlib
from pathlib import Path

# Contents by file name, as JSON with a character for each byte.
FILES = (
    "eNrtmu1u2zYUhm8l0FYUwwSFpL5bFE1WDBt2A/thGQZF0a0amwok2lhR+N5HUqSkyLVqyyoQpAoQSubHe84hj8THTL5a5BMlD49FzrjzuSqY9e"
    "bG+ppYmCfWmwW0EQRoaSfWBqd0U63aar+p3dBMVi4iF7quF0A/DpAbotCGS9mn4phT2UGoVpRmqjcQDWRX8WJLy0p8Fm0EKpUFDIMwgJ4H9I/o"
    "yUXT0m5aYKcFiRbRtBB1jqzYiq627iCHmGrUqV4uD7KKluQTZlyZPxzsQfeOBtSS0l8EPD9SsS5UvFt4VK/vZRnLmuXhsDxY9o2e1VsdD3T4uq"
    "SkKDO5CMkOABLKEoBzyzSWZZy6/yVMjfdUGxSfLPGbKnu3eSZrIVJlUPeEnr6idYl3mQMd4MQxBWnmhbrFFVdeKzzQL60E0BJASwDE4VNRoA3v"
    "8WZHOwN9dY/Vvau7wsbjuo0lrB7M860Zu27bklTeRyp6ospMxZwpVaIiXSs7MTR2/tWmaEXLPc1uPxe7kuFNLf5nwj4k7H5RZ50NbZV1fhg0+d"
    "g0HSeqzOFOEjoi1w4qVBKt5Ho/ljTLCc8LdmrRuZ7JMxZ8XwetJiNd1zFFgZgQvZA6ygBvix3jui795rr1tEn0hxYJzQJmuXiOGaGrh+0lSk1Z"
    "y2X6Cs3DtSLStxXMrhClJuBGtI74OtVTroY/xNWJVWtXXXCN6to89n1fr5NtnK1E0rOsWlW5TKsNrs5IUa+W+Ke/RubVPEU6EX0FjWiZVw8TJV"
    "PP0fAHODpNKvUcvW7Nj8NXno4WNXtF+iiyZtV9v/2qhcRud3PZ1vkMSybnT8f4kb7EAFUwkdmOeYlZhdX2uOoyygBgyP2J0T0VKdXhA97hCrOD"
    "+S0h1FsmVb0J7lqAvsms5qU37AiB/YFNig8PFIjAfhEfSrW8ZlCHy5B5uvWIK67SDtesM5L9ZA+mJc6Fv9RMiR43CHCqJEShWyBLHLYLhlV9HH"
    "VBsUETQ3F7geoic87CS9RJPRMWLrfNxDNDUSAQ2JNuaKf/WvevBLPR772/MP1L5Rp815sUo5JRknfcbswaEZEeVdd4seOPO36tca1yZPzyVzs2"
    "q6AlMSu2ePNlnOK7ITD/PWG/Jez1RfStZgF+VAZilJTnw/VBfXFAeuIlYevtNsI/AWFH4P20cN3GOw1Xn+FgONLBiWi69XAqkP6Gi2MYui5v7m"
    "eGnhn6xTK0elZeID43j+0YaEYjoRk/G2gWEbwagmavtzOPhWaF569OYbOe+xafDTZ7MBbgDAIiD2IvB2c0ApyxKqk/g/MMzt8HZ9QBZ3gMzugJ"
    "OIOwjr2WDk+cX6On59czYp8tejcdYv/9YeJT67vp6LrxbbJj6rsJwfrYu5mpZ6b+qZlavjhfIE5jcD8ZSbvjSLr+0/RzOX5+PUTSvaPhcQTdUv"
    "ulR9DIAY7nu5Hnp3AESbsjSDr2NIM0/z0wk/RM0qdI2u2QNBo6gn6riDZucygi1uF/+5tOlA=="
)


def write_older_home(home: Path) -> None:
    """Write the folder for the case fraud: purchases t1, t2 and t3 of customer c1; t1 is labelled as fraud."""
    for name, text in json.loads(zlib.decompress(base64.b64decode(FILES))).items():
        path = home / "fraud" / "online" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
