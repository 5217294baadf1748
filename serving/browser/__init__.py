"""A web page that runs the model in the browser, without a model server."""
