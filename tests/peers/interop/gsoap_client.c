/* gSOAP calls the gateway: address, API key, number, customer, kind. Prints what it got as JSON. Its stubs are made from order.wsdl. */
#include "soapH.h"
#include "Orders11.nsmap"

int main(int count, char **a) {
  if (count != 6) return 2;
  struct soap *soap = soap_new1(SOAP_C_UTFSTRING | SOAP_XML_INDENT);
  char header[200];
  snprintf(header, sizeof header, "X-Api-Key: %s", a[2]);
  soap->http_extra_header = header;
  char *tags[] = {"a", "<b>"};
  struct ns2__Line line[] = {{"茶", 2, 2, tags}, {"杯", 1, 0, NULL}};
  struct ns2__Lines lines = {2, line};
  enum ns2__Kind kind = strcmp(a[5], "urgent") ? 99 : ns2__Kind__urgent;
  struct _ns2__Submit order = {a[3], a[4], NULL, "12345678901234567.89", xsd__boolean__true_, "2026-02-28", &kind, &lines};
  struct _ns2__SubmitResponse answer;
  if (soap_call___ns1__Submit(soap, a[1], NULL, &order, &answer) == SOAP_OK)
    printf("{\"ok\":{\"Got\":\"%s\",\"Count\":%d}}\n", answer.Got, answer.Count);
  else
    printf("{\"fault\":\"%s\",\"code\":\"%s\"}\n", soap_fault_string(soap) ? soap_fault_string(soap) : "", *soap_faultcode(soap));
  soap_destroy(soap);
  soap_end(soap);
  soap_free(soap);
  return 0;
}
