// Shows the API's reference. A token that somebody signed in with on the page is used here too.
import { token } from "../session.ts";

interface Reference {
  preauthorizeApiKey(scheme: string, value: string): void;
}

declare const SwaggerUIBundle: (options: object) => Reference;

const reference = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Otherwise it asks another host whether the document is valid.
  validatorUrl: null,
  onComplete: () => {
    if (token.value) reference.preauthorizeApiKey("HTTPBearer", token.value);
  },
});
