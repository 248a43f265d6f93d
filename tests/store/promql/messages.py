"""Reads the messages of remote write with the reference implementation of protocol buffers."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
STALE = 0x7FF0000000000002


class Read(NamedTuple):
    """One series of a message, which has one sample."""

    labels: Mapping[str, str]
    value: float
    at_ms: int


@cache
def write_request() -> Any:
    """The class WriteRequest of prometheus/prompb, with the fields that are used."""
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    messages = {
        "WriteRequest": [("timeseries", 1, FIELD.TYPE_MESSAGE, "TimeSeries")],
        "TimeSeries": [
            ("labels", 1, FIELD.TYPE_MESSAGE, "Label"),
            ("samples", 2, FIELD.TYPE_MESSAGE, "Sample"),
        ],
        "Label": [("name", 1, FIELD.TYPE_STRING, ""), ("value", 2, FIELD.TYPE_STRING, "")],
        "Sample": [("value", 1, FIELD.TYPE_DOUBLE, ""), ("timestamp", 2, FIELD.TYPE_INT64, "")],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind, other in fields:
            label = FIELD.LABEL_REPEATED if other else FIELD.LABEL_OPTIONAL
            one = message.field.add(name=field, number=number, type=kind, label=label)
            if other:
                one.type_name = f".prometheus.{other}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


def read(message: bytes) -> list[Read]:
    """The series of a message; each has sorted labels, none twice or empty, and one sample."""
    found = []
    for one in write_request().FromString(message).timeseries:
        names = [label.name for label in one.labels]
        assert names == sorted(set(names))
        assert all(label.value for label in one.labels)
        (sample,) = one.samples
        labels = {label.name: label.value for label in one.labels}
        found.append(Read(labels, sample.value, sample.timestamp))
    return found


def read_body(body: bytes) -> list[Read]:
    """The series in the body of a request."""
    return read(bytes(cramjam.snappy.decompress_raw(body)))
