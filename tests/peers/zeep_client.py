"""zeep calls the gateway: WSDL URL, port, API key, WSSE user and password or "-", and the call as JSON. Prints what it got as JSON."""
import base64, datetime, decimal, json, sys
import requests, zeep
from zeep.transports import Transport
from zeep.wsse.username import UsernameToken

url, port, key, user, password, call = sys.argv[1:7]
session = requests.Session()
session.headers["X-Api-Key"] = key
wsse = None if user == "-" else UsernameToken(user, password, use_digest=True)
client = zeep.Client(url, transport=Transport(session=session, timeout=20, operation_timeout=20), wsse=wsse, port_name=port)
call = json.loads(call, parse_float=decimal.Decimal)
if "Due" in call:
    call["Due"] = datetime.date.fromisoformat(call["Due"])
if "Note" in call and call["Note"] is None:
    call["Note"] = zeep.xsd.Nil
if "Content" in call:
    call["Content"] = [base64.b64decode(one) for one in call["Content"]]
operation = call.pop("$operation", "Submit")


def plain(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


try:
    with client.settings(strict=True):
        answer = zeep.helpers.serialize_object(getattr(client.service, operation)(**call), dict)
    print(json.dumps({"ok": answer}, default=plain, ensure_ascii=False))
except zeep.exceptions.Fault as fault:
    detail = zeep.wsdl.utils.etree_to_string(fault.detail).decode() if fault.detail is not None else None
    print(json.dumps({"fault": fault.message, "code": str(fault.code), "subcodes": [str(c) for c in fault.subcodes or []], "detail": detail}, ensure_ascii=False))
