"""A page that runs the model in the browser, without a server behind it."""
