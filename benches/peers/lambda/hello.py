"""An answer without any work."""


def handler(event, context):
    return {"message": "hello"}
