"""suds calls the gateway by the WSDL that it serves: WSDL URL, API key, number, customer, kind. Prints what it got as JSON."""
import json, sys
from suds import WebFault
from suds.client import Client

url, key, number, customer, kind = sys.argv[1:6]
client = Client(url, port="Orders11", headers={"X-Api-Key": key}, cache=None, timeout=20)
order = client.factory.create("{urn:oa}Lines")
for sku, qty, tags in (("茶", 2, ["a", "<b>"]), ("杯", 1, [])):
    line = client.factory.create("{urn:oa}Line")
    line.Sku, line.Qty, line.Tag = sku, qty, tags
    order.Line.append(line)
try:
    answer = client.service.Submit(No=number, Customer=customer, Total="12345678901234567.89", Paid=True, Due="2026-02-28", Kind=kind, Lines=order)
    print(json.dumps({"ok": {"Got": str(answer.Got), "Count": int(answer.Count)}}))
except WebFault as fault:
    print(json.dumps({"fault": str(fault.fault.faultstring), "code": str(fault.fault.faultcode)}, ensure_ascii=False))
