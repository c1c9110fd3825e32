"""Reads payloads with the classes that Slack and Datadog publish: check_payloads.py FILE

FILE has a list of payloads for each of `slack`, `datadog_events` and `datadog_metrics`. The classes refuse
missing fields, wrong types and texts that are too long; fields that they do not know are found by comparison.
"""
import json
import sys

from datadog_api_client import Configuration
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v1.model.event_create_request import EventCreateRequest
from datadog_api_client.v2.model.metric_payload import MetricPayload
from slack_sdk.models.blocks import Block
from slack_sdk.models.messages.message import Message

MAX_BLOCKS = 50
# Of the method chat.postMessage and of incoming webhooks.
SLACK_FIELDS = {"text", "blocks", "unfurl_links"}


def check_slack(body):
    assert body.keys() <= SLACK_FIELDS, body.keys()
    blocks = [Block.parse(block) for block in body["blocks"]]
    assert None not in blocks and 1 <= len(blocks) <= MAX_BLOCKS, body
    shown = [block.to_dict() for block in blocks]
    assert shown == body["blocks"], f"{shown} is not {body['blocks']}"
    Message(text=body["text"], blocks=blocks).to_dict()


def unknown(known, value):
    """Fields at any depth that the classes do not know."""
    if isinstance(value, list):
        return [name for k, v in zip(known, value) for name in unknown(k, v)]
    if not isinstance(value, dict):
        return []
    assert not getattr(known, "_unparsed", False), f"the classes can't read {value}"
    names = known.attribute_map.values()
    found = [name for name in value if name not in names]
    for attribute, name in known.attribute_map.items():
        if name in value and isinstance(value[name], (dict, list)):
            found += unknown(getattr(known, attribute), value[name])
    return found


def check_datadog(body, model):
    known = validate_and_convert_types(body, (model,), ["body"], False, True, Configuration())
    assert known.to_dict() == body, f"{known.to_dict()} is not {body}"
    assert not unknown(known, body), f"unknown fields: {unknown(known, body)}"


def refuses(check, *wrong):
    """The check itself must be able to fail."""
    try:
        check(*wrong)
    except Exception:
        return
    raise SystemExit(f"{wrong} was accepted")


with open(sys.argv[1], encoding="utf-8") as file:
    payloads = json.load(file)
for payload in payloads["slack"]:
    check_slack(payload)
for payload in payloads["datadog_events"]:
    check_datadog(payload, EventCreateRequest)
for payload in payloads["datadog_metrics"]:
    check_datadog(payload, MetricPayload)

slack, event = payloads["slack"][0], payloads["datadog_events"][0]
series = payloads["datadog_metrics"][0]["series"][0]
long = {"type": "header", "text": {"type": "plain_text", "text": "x" * 151, "emoji": False}}
refuses(check_slack, {**slack, "blocks": [long]})
refuses(check_slack, {**slack, "blocks": [{**slack["blocks"][0], "color": "red"}]})
refuses(check_datadog, {**event, "alert_type": "odd"}, EventCreateRequest)
refuses(check_datadog, {**event, "aggregation_key": "x" * 101}, EventCreateRequest)
refuses(check_datadog, {**event, "odd": 1}, EventCreateRequest)
refuses(check_datadog, {"series": [{**series, "odd": 1}]}, MetricPayload)
refuses(check_datadog, {"series": [{**series, "points": [{"timestamp": "now"}]}]}, MetricPayload)
print(*(f"{kind}: {len(bodies)}" for kind, bodies in sorted(payloads.items())))
