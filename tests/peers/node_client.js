// node-soap calls the gateway: WSDL URL, port, API key, WSSE user and password or "-", the call as JSON. Prints what it got as JSON.
const soap = require('soap');
const [url, port, key, user, password, call] = process.argv.slice(2);
const headers = { 'X-Api-Key': key };
(async () => {
  const client = await soap.createClientAsync(url, { wsdl_headers: headers, forceSoap12Headers: port.endsWith('12') });
  if (user !== '-') client.setSecurity(new soap.WSSecurity(user, password, { passwordType: 'PasswordDigest', hasTimeStamp: true }));
  try {
    const described = client.describe();
    const service = Object.keys(described).find((name) => described[name][port]);
    const answer = await new Promise((done, failed) =>
      client[service][port].Submit(JSON.parse(call), (error, result) => error ? failed(error) : done(result), {}, headers));
    console.log(JSON.stringify({ ok: answer }));
  } catch (error) {
    const fault = error.root && error.root.Envelope.Body.Fault;
    if (!fault) throw error;
    console.log(JSON.stringify({ fault: fault.faultstring || fault.Reason.Text, code: fault.faultcode || fault.Code.Value, detail: fault.detail || fault.Detail }));
  }
})().catch((error) => { console.error(error); process.exit(1); });
