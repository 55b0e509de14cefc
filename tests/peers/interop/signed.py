"""zeep with its signatures (xmlsec), at either end of the order service.

signed.py call URL KEYFILE CERTFILE THEIR_CERTFILE binary|data NUMBER   calls the gateway; prints what it got as JSON
signed.py serve LOG KEYFILE CERTFILE THEIR_CERTFILE                     is called; prints `ready PORT`, logs what it got as JSON lines

Orders whose number begins with BAD get an answer that was changed after it was signed.
"""
import datetime, decimal, http.server, json, sys
import xmlsec, zeep
from lxml import etree
from zeep.wsse import signature, utils

WITH = {"signature_method": xmlsec.Transform.RSA_SHA256, "digest_method": xmlsec.Transform.SHA256}
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


def stamped(envelope):
    """A Timestamp, which zeep signs where there is one and makes none itself."""
    now = datetime.datetime.now(datetime.timezone.utc)
    at = lambda when: when.strftime("%Y-%m-%dT%H:%M:%SZ")
    created, expires = utils.WSU.Created(at(now)), utils.WSU.Expires(at(now + datetime.timedelta(minutes=5)))
    utils.get_security_header(envelope).append(utils.WSU.Timestamp(created, expires))


def plugin(kind, key, cert, theirs):
    class Signed({"binary": signature.BinarySignature, "data": signature.Signature}[kind]):
        def apply(self, envelope, headers):
            stamped(envelope)
            return super().apply(envelope, headers)

        def verify(self, envelope):
            signature.verify_envelope(envelope, theirs)
            return envelope

    return Signed(key, cert, **WITH)


def call(url, key, cert, theirs, kind, number):
    client = zeep.Client(url, wsse=plugin(kind, key, cert, theirs), port_name="Orders11")
    lines = {"Line": [{"Sku": "茶", "Qty": 2, "Tag": ["a", "<b>"]}, {"Sku": "杯", "Qty": 1}]}
    order = dict(No=number, Customer="张三 & <söhne> \"'", Total=decimal.Decimal("12345678901234567.89"), Paid=True, Due=datetime.date(2026, 2, 28), Lines=lines)
    try:
        answer = zeep.helpers.serialize_object(client.service.Submit(**order), dict)
        print(json.dumps({"ok": answer}, ensure_ascii=False))
    except zeep.exceptions.Fault as fault:
        print(json.dumps({"fault": fault.message, "code": str(fault.code)}, ensure_ascii=False))
    except zeep.exceptions.SignatureVerificationFailed:
        print(json.dumps({"unsigned": True}))


def serve(log, key, cert, theirs):
    class Orders(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            sent = etree.fromstring(self.rfile.read(int(self.headers["Content-Length"])))
            signature.verify_envelope(sent, theirs)
            number = sent.findtext(".//{urn:oa}No")
            got = {"number": number, "customer": sent.findtext(".//{urn:oa}Customer")}
            with open(log, "a") as file:
                file.write(json.dumps(got, ensure_ascii=False) + "\n")
            body = f"<o:SubmitResponse xmlns:o='urn:oa'><o:Got>{number}</o:Got><o:Count>2</o:Count></o:SubmitResponse>"
            answer = etree.fromstring(f"<s:Envelope xmlns:s='{SOAP}'><s:Header/><s:Body>{body}</s:Body></s:Envelope>")
            stamped(answer)
            signature.BinarySignature(key, cert, **WITH).apply(answer, {})
            if number.startswith("BAD"):
                answer.find(".//{urn:oa}Count").text = "3"
            self.send_response(200)
            self.send_header("Content-Type", "text/xml; charset=utf-8")
            self.end_headers()
            self.wfile.write(etree.tostring(answer))

    server = http.server.HTTPServer(("127.0.0.1", 0), Orders)
    print("ready", server.server_address[1], flush=True)
    server.serve_forever()


{"call": call, "serve": serve}[sys.argv[1]](*sys.argv[2:])
