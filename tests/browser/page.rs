//! A member in front of the demo page: what they see, click and type.
//!
//! Invariant: input comes from mouse and keyboard, and fields are found by their labels, as people do it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::eventually::eventually;
use serde_json::{Value, json};

use crate::chromium::Chromium;

/// For what takes a fraction of a second on an idle machine.
pub const BOUND: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Page<'a> {
    browser: &'a Chromium,
    session: String,
}

/// A message as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub text: String,
    /// Of the member's own messages: `Sending…`, `Sent`, `Read`.
    pub state: Option<String>,
}

/// A profile of its own: pages in it share cookies with each other and with no other page.
pub async fn new_profile(browser: &Chromium) -> Result<String> {
    let made = browser
        .call(None, "Target.createBrowserContext", json!({}))
        .await?;
    string(&made["browserContextId"])
}

impl<'a> Page<'a> {
    pub async fn open(browser: &'a Chromium, profile: &str, address: &str) -> Result<Self> {
        let target = json!({ "url": "about:blank", "browserContextId": profile });
        let target = browser.call(None, "Target.createTarget", target).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call(None, "Target.attachToTarget", attach).await?;
        let page = Self {
            browser,
            session: string(&attached["sessionId"])?,
        };
        page.call("Runtime.enable", json!({})).await?;
        page.call("Log.enable", json!({})).await?;
        page.call("Page.navigate", json!({ "url": address })).await?;
        Ok(page)
    }

    /// The value of an expression, as JSON.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let params = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params).await?;
        let thrown = answer.get("exceptionDetails");
        ensure!(thrown.is_none(), "{expression} threw {thrown:?}");
        Ok(answer["result"]["value"].take())
    }

    /// The text of the element with that id; empty while it is not to be seen.
    pub async fn text(&self, id: &str) -> Result<String> {
        let expression = format!(
            "(element => element?.checkVisibility() ? element.innerText : '')(document.getElementById({}))",
            Value::from(id)
        );
        string(&self.evaluate(&expression).await?)
    }

    /// Waits until the element with that id shows this.
    pub async fn shows(&self, id: &str, wanted: &str) {
        eventually(format!("#{id} shows {wanted:?}"), BOUND, async || {
            match self.text(id).await {
                Ok(text) if text.contains(wanted) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    /// The messages of the room that is open, from the top.
    pub async fn messages(&self) -> Result<Vec<Seen>> {
        const MESSAGES: &str = "[...document.querySelectorAll('#messages li')].map(item =>
            [item.querySelector('span').innerText, item.querySelector('small')?.innerText])";
        let items = self.evaluate(MESSAGES).await?;
        items
            .as_array()
            .context("a list")?
            .iter()
            .map(|item| {
                Ok(Seen {
                    text: string(&item[0])?,
                    state: item[1].as_str().map(str::to_owned),
                })
            })
            .collect()
    }

    /// Waits until the messages have these texts: all of them, once, in this order.
    pub async fn shows_messages(&self, wanted: &[String]) {
        eventually(format!("the messages {wanted:?}"), BOUND, async || {
            let texts: Vec<String> = self
                .messages()
                .await
                .map_err(|error| error.to_string())?
                .into_iter()
                .map(|message| message.text)
                .collect();
            if texts == wanted {
                Ok(())
            } else {
                Err(texts.join(" | "))
            }
        })
        .await;
    }

    /// Waits until the last message is in that state.
    pub async fn last_is(&self, wanted: &str) {
        eventually(format!("the last message is {wanted}"), BOUND, async || {
            let messages = self.messages().await.map_err(|error| error.to_string())?;
            let last = messages.last().and_then(|message| message.state.clone());
            if last.as_deref() == Some(wanted) {
                Ok(())
            } else {
                Err(format!("{messages:?}"))
            }
        })
        .await;
    }

    /// Clicks on the button whose text contains this, once it is there.
    pub async fn click(&self, text: &str) {
        let button = format!(
            "[...document.querySelectorAll('button')]
                .find(button => button.checkVisibility() && button.innerText.includes({}))",
            Value::from(text)
        );
        eventually(format!("a button {text:?}"), BOUND, async || {
            self.press(&button).await
        })
        .await;
    }

    /// Types into the field with that label, once it is there. A line break is the Enter key.
    pub async fn type_into(&self, label: &str, text: &str) {
        let field = format!(
            "[...document.querySelectorAll('label')]
                .find(label => label.checkVisibility() && label.innerText === {})?.control",
            Value::from(label)
        );
        eventually(format!("a field {label:?}"), BOUND, async || {
            self.press(&field).await
        })
        .await;
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.press_enter().await.expect("a key");
            }
            let insert = self.call("Input.insertText", json!({ "text": line })).await;
            insert.expect("text is typed");
        }
    }

    async fn press_enter(&self) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13
            });
            self.call("Input.dispatchKeyEvent", key).await?;
        }
        Ok(())
    }

    /// Moves the mouse to the middle of the element that the expression names, and clicks.
    async fn press(&self, element: &str) -> Result<()> {
        let middle = format!(
            "(element => {{
                if (!element) return null;
                element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const box = element.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})({element})"
        );
        let middle = self.evaluate(&middle).await?;
        ensure!(middle.is_array(), "it is not there");
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({
                "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1
            });
            self.call("Input.dispatchMouseEvent", mouse).await?;
        }
        Ok(())
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.browser.call(Some(&self.session), method, params).await
    }
}

fn string(value: &Value) -> Result<String> {
    Ok(value
        .as_str()
        .with_context(|| format!("{value} is no text"))?
        .to_owned())
}
